# Generated data, made by tools/dataset_converters/shapes.py --out data/shapes
data_root = 'data/shapes'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeAlignCorners', size=144),
    dict(
        type='TwoViews',
        view_2_size=72,
        crop_size=48,
        crop_prob=0.3,
        crop_grid=8,
        color=dict(contrast=(0.8, 1.25), saturation=(0.8, 1.2), hue=0.1, gray_prob=0.1),
    ),
    dict(type='PackWeakInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='ResizeAlignCorners', size=144, resize_mask=False),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(
    batch_size=16,  # x 1 GPU
    num_workers=1,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='ResumableInfiniteSampler', shuffle=True),
    dataset=dict(
        type='ShapesDataset', data_root=data_root, ann_file='ImageSets/Segmentation/train.txt', pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ShapesDataset',
        data_root=data_root,
        ann_file='ImageSets/Segmentation/val.txt',
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='WSSSMetric')
test_evaluator = val_evaluator
