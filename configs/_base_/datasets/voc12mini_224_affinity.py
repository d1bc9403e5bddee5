# The small VOC benchmark with labels of cells from two exports of maps, as in voc12aug_448_affinity.py.
_base_ = './voc12aug_448_affinity.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(_base_.train_pipeline[1], crop_size=224),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=16,  # x 1 GPU
    num_workers=2,
    dataset=dict(
        data_root='{{$MMWSSS_BENCH_DIR:../shared}}/data/voc12_mini',
        ann_file='ImageSets/Segmentation/train.txt',
        pipeline=train_pipeline,
    ),
)
