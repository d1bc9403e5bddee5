# Generated data as in shapes_144.py, for SEAM: a random length of the longer side, jitter of colours, tests on the squashed image.
_base_ = ['./shapes_144.py', './multiscale_steps.py']
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(_base_.multiscale_steps.resize, scale=(192, 192), ratio_range=(144 / 192, 1.0)),  # longer side 144 to 192
    dict(type='RandomFlip', prob=0.5),
    *_base_.multiscale_steps.jitter,
    dict(_base_.multiscale_steps.crop, size=144),
    dict(type='PackWeakInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(144, 144), keep_ratio=False, backend='pillow'),
    dict(type='LoadAnnotations'),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(
    batch_size=8,  # x 1 GPU
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
