# VOC 2012 with the trainaug list, prepared by tools/dataset_converters/voc12aug.py. Masks of the training images only give
# the image labels here; label_source names other sources.
data_root = 'data/VOCdevkit/VOC2012'
dataset_type = 'WeakVOCDataset'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeAlignCorners', size=384),
    dict(
        type='TwoViews',
        view_2_size=192,
        crop_size=128,
        crop_prob=0.3,
        crop_grid=16,
        color=dict(brightness=0.2, contrast=(0.5, 2.0), saturation=(0.5, 1.5), hue=0.1, gray_prob=0.1),
    ),
    dict(type='PackWeakInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='ResizeAlignCorners', size=960, resize_mask=False),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(
    batch_size=16,  # x 4 GPUs = 64
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='ResumableInfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='ImageSets/Segmentation/trainaug.txt',
        data_prefix=dict(seg_map_path='SegmentationClassAug'),
        label_source=dict(type='MaskLabels'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='ImageSets/Segmentation/val.txt',
        label_source=dict(type='MaskLabels'),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='WSSSMetric')
test_evaluator = val_evaluator
