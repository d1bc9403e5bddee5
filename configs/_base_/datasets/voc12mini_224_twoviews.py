# The small VOC benchmark as in voc12mini_224.py, for CoSA: a weak and a strong view of one random crop.
_base_ = './voc12mini_224.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomRatioScale', ratio_range=(0.5, 2.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomPadCrop', size=224),
    dict(type='PILGaussianBlur', prob=0.5, radius=(0.1, 2.0)),
    dict(type='OneOfStrongAug', magnitude=(1, 9)),
    dict(type='PackWeakInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', to_float32=True),
    dict(type='Resize', scale=(224, 224), keep_ratio=False),
    dict(type='LoadAnnotations'),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(
    batch_size=4,  # x 1 GPU
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
