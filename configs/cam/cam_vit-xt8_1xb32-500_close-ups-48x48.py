# Image classification on the close-ups of the shapes data, one label a picture: what ImageNet is to the real methods.
# configs/vitpcm_shapes.py, configs/cosa_shapes.py and configs/cam_shapes.py start from the backbone trained here.
_base_ = ['../_base_/models/cam_vit-b16.py', '../_base_/default_runtime.py']
model = dict(
    backbone=dict(
        arch='vit-xt',
        img_size=144,
        patch_size=8,
        stem='conv',
        layer_scale_init_value=1e-3,
        drop_rate=0.0,
        num_trainable_blocks=None,
    ),
    head=dict(in_channels=128, num_classes=7),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TwoViews', second_view=False),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(
    batch_size=32,  # x 1 GPU
    num_workers=1,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='ResumableInfiniteSampler', shuffle=True),
    dataset=dict(
        type='ShapesDataset',
        data_root='data/shapes',
        data_prefix=dict(img_path='CloseUps', seg_map_path=None),
        label_source=dict(type='FileLabels', path='close_ups.json'),
        pipeline=train_pipeline,
    ),
)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = []
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=500, val_interval=500)
