# VOC 2012 as in voc12aug_384.py, for single-stage methods: one view, random scales and crops.
_base_ = './voc12aug_384.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomRatioScale', ratio_range=(0.5, 2.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomPadCrop', size=384),
    dict(type='PackWeakInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='ResizeAlignCorners', size=384, resize_mask=False),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
