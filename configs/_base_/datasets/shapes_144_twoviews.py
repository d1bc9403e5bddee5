# Generated data as in shapes_144.py, for CoSA: a weak and a strong view of one random crop. Scales are milder and the blur is
# weaker than on photographs: the classes differ by textures of few pixels.
_base_ = './shapes_144.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomRatioScale', ratio_range=(0.8, 1.25)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomPadCrop', size=144),
    dict(type='PILGaussianBlur', prob=0.5, radius=(0.1, 0.6)),
    dict(type='OneOfStrongAug', magnitude=(1, 9)),
    dict(type='PackWeakInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', to_float32=True),
    dict(type='Resize', scale=(144, 144), keep_ratio=False),
    dict(type='LoadAnnotations'),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(
    batch_size=4,  # x 1 GPU
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
