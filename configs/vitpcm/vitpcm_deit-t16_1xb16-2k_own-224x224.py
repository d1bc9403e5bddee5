# Images and tags of your own (MMWSSS_DATA_ROOT), from a DeiT-Tiny, which is downloaded unless MMWSSS_WEIGHTS names a file.
_base_ = [
    '../_base_/models/vitpcm_vit-b16.py',
    '../_base_/datasets/own_data.py',
    '../_base_/schedules/vitpcm_two_phase.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        arch='vit-t',
        img_size=224,
        drop_rate=0.0,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='{{$MMWSSS_WEIGHTS:https://dl.fbaipublicfiles.com/deit/deit_tiny_patch16_224-a1311bcf.pth}}',
        ),
    ),
    neck=dict(in_channels=192, hidden=96),
    head=dict(in_channels=384, num_classes=_base_.own_data.num_classes),
)
custom_hooks = [
    dict(type='TwoPhaseTrainHook', warmup_iters=60, warmup_lr=1e-3, lr=1e-4),
    dict(type='PanelHook', num_images=16),
]
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=2000, val_interval=1000)
