# The small benchmark of real VOC 2012 photographs, see tools/dataset_converters/voc12_mini.py. MMWSSS_BENCH_DIR is the
# folder that holds data/voc12_mini and weights/.
data_root = '{{$MMWSSS_BENCH_DIR:../shared}}/data/voc12_mini'
dataset_type = 'WeakVOCDataset'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeAlignCorners', size=224),
    dict(
        type='TwoViews',
        view_2_size=112,
        crop_size=80,
        crop_prob=0.3,
        crop_grid=16,
        flip_ud_prob=0.0,
        transpose_prob=0.0,
        color=dict(contrast=(0.7, 1.4), saturation=(0.6, 1.4), hue=0.05, gray_prob=0.1),
    ),
    dict(type='PackWeakInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='ResizeAlignCorners', size=448, resize_mask=False),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(
    batch_size=16,  # x 1 GPU
    num_workers=2,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='ResumableInfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type, data_root=data_root, ann_file='ImageSets/Segmentation/train.txt', pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='ImageSets/Segmentation/val.txt',
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='WSSSMetric')
test_evaluator = val_evaluator
