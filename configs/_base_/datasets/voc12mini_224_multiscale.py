# The small VOC benchmark as in voc12mini_224.py, for SEAM: a random length of the longer side, jitter of colours, tests on the squashed image.
_base_ = ['./voc12mini_224.py', './multiscale_steps.py']
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(_base_.multiscale_steps.resize, scale=(384, 384), ratio_range=(224 / 384, 1.0)),  # longer side 224 to 384
    dict(type='RandomFlip', prob=0.5),
    *_base_.multiscale_steps.jitter,
    dict(_base_.multiscale_steps.crop, size=224),
    dict(type='PackWeakInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(320, 320), keep_ratio=False, backend='pillow'),
    dict(type='LoadAnnotations'),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(
    batch_size=8,  # x 1 GPU
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
