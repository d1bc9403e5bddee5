# Generated data with labels of cells from two exports of maps, as in voc12aug_448_affinity.py.
_base_ = './voc12aug_448_affinity.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(_base_.train_pipeline[1], crop_size=144),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=16,  # x 1 GPU
    num_workers=1,
    dataset=dict(
        type='ShapesDataset',
        data_root='data/shapes',
        ann_file='ImageSets/Segmentation/train.txt',
        pipeline=train_pipeline,
    ),
)
