# COCO 2014, 81 classes with the background; masks as WeakCOCODataset describes them.
_base_ = './voc12aug_384.py'
data_root = 'data/coco'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeAlignCorners', size=384),
    dict(
        type='TwoViews',
        view_2_size=192,
        crop_size=128,
        crop_prob=0.0,
        crop_grid=16,
        color=dict(brightness=0.2, contrast=(0.5, 2.0), saturation=(0.5, 1.5), hue=0.1, gray_prob=0.1),
    ),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(
    dataset=dict(
        type='WeakCOCODataset',
        data_root=data_root,
        ann_file='',
        data_prefix=dict(img_path='train2014', seg_map_path='SegmentationClass/train2014'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type='WeakCOCODataset',
        data_root=data_root,
        ann_file='',
        data_prefix=dict(img_path='val2014', seg_map_path='SegmentationClass/val2014'),
    )
)
test_dataloader = val_dataloader
