# COCO 2014 as in coco14_384.py, for CoSA: a weak and a strong view of one random crop, tests on the squashed image.
_base_ = './coco14_384.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomRatioScale', ratio_range=(0.5, 2.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomPadCrop', size=448),
    dict(type='PILGaussianBlur', prob=0.5, radius=(0.1, 2.0)),
    dict(type='OneOfStrongAug', magnitude=(1, 9)),
    dict(type='PackWeakInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', to_float32=True),
    dict(type='Resize', scale=(448, 448), keep_ratio=False),
    dict(type='LoadAnnotations'),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(
    batch_size=4,  # x 2 GPUs = 8
    num_workers=4,
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
