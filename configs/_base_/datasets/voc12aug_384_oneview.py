# VOC 2012 as in voc12aug_384.py, for methods that see one view of the whole image.
_base_ = './voc12aug_384.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeAlignCorners', size=384),
    dict(
        type='TwoViews',
        second_view=False,
        color=dict(brightness=0.2, contrast=(0.5, 2.0), saturation=(0.5, 1.5), hue=0.1, gray_prob=0.1),
    ),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
