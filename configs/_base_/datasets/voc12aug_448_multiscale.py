# VOC 2012 as in voc12aug_384.py, for SEAM: a random length of the longer side, jitter of colours, tests on the image as it is.
_base_ = ['./voc12aug_384.py', './multiscale_steps.py']
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(_base_.multiscale_steps.resize, scale=(768, 768), ratio_range=(448 / 768, 1.0)),  # longer side 448 to 768
    dict(type='RandomFlip', prob=0.5),
    *_base_.multiscale_steps.jitter,
    dict(_base_.multiscale_steps.crop, size=448),
    dict(type='PackWeakInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(
    batch_size=3,  # x 8 GPUs = 24
    num_workers=4,
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
