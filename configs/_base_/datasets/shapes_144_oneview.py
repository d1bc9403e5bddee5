# Generated data as in shapes_144.py, for methods that see one view of the whole image.
_base_ = './shapes_144.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeAlignCorners', size=144),
    dict(
        type='TwoViews',
        second_view=False,
        color=dict(contrast=(0.8, 1.25), saturation=(0.8, 1.2), hue=0.1, gray_prob=0.1),
    ),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
