# Generated data with labels of cells from two exports of maps, made with --maps --steps psa_low and psa_high.
# MMWSSS_AFFINITY_LOW and MMWSSS_AFFINITY_HIGH name their folders maps/. True masks are not read.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='LoadAffinityLabels',
        low='{{$MMWSSS_AFFINITY_LOW:work_dirs/affinity_low/maps}}',
        high='{{$MMWSSS_AFFINITY_HIGH:work_dirs/affinity_high/maps}}',
        crop_size=144,
    ),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=16,  # x 1 GPU
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='ResumableInfiniteSampler', shuffle=True),
    dataset=dict(
        type='ShapesDataset',
        data_root='data/shapes',
        ann_file='ImageSets/Segmentation/train.txt',
        data_prefix=dict(seg_map_path=None),
        label_source=None,
        pipeline=train_pipeline,
    ),
)
