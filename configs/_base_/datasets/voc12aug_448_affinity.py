# VOC's trainaug list with labels of cells from two exports of maps, made with --maps --steps psa_low and psa_high.
# MMWSSS_AFFINITY_LOW and MMWSSS_AFFINITY_HIGH name their folders maps/. True masks are not read.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='LoadAffinityLabels',
        low='{{$MMWSSS_AFFINITY_LOW:work_dirs/affinity_low/maps}}',
        high='{{$MMWSSS_AFFINITY_HIGH:work_dirs/affinity_high/maps}}',
        crop_size=448,
    ),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=4,  # x 4 GPUs = 16
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='ResumableInfiniteSampler', shuffle=True),
    dataset=dict(
        type='WeakVOCDataset',
        data_root='data/VOCdevkit/VOC2012',
        ann_file='ImageSets/Segmentation/trainaug.txt',
        data_prefix=dict(seg_map_path=None),
        label_source=None,
        pipeline=train_pipeline,
    ),
)
