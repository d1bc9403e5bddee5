# The small VOC benchmark as in voc12mini_224.py, for methods that see one view of the whole image.
_base_ = './voc12mini_224.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeAlignCorners', size=224),
    dict(
        type='TwoViews',
        second_view=False,
        flip_ud_prob=0.0,
        transpose_prob=0.0,
        color=dict(contrast=(0.7, 1.4), saturation=(0.6, 1.4), hue=0.05, gray_prob=0.1),
    ),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
