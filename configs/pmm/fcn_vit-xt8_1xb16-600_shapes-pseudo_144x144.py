# PUF (clamp, beta = k = 0.5) on pseudo masks of the generated data: a fully convolutional head on the small ViT, with the schedule
# of the other methods there. MMWSSS_PSEUDO_MASKS names the folder of masks; configs/pretrain_shapes.py has to run first.
_base_ = [
    '../_base_/backbones/vit-xt8_shapes.py',
    '../_base_/datasets/shapes_144_pseudo.py',
    '../_base_/schedules/vitpcm_two_phase.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='MultiViewEncoderDecoder',
    data_preprocessor=dict(
        type='WeakSegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(_base_.pretrained_backbone, type='TokenViT', pos_interp='tf'),
    decode_head=dict(
        type='FCNHead',
        in_channels=128,
        in_index=-1,
        channels=128,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=7,
        norm_cfg=dict(type='BN', requires_grad=True),
        align_corners=True,
        loss_decode=dict(type='UnderFittingCrossEntropyLoss', form='clamp', beta=0.5, k=0.5),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
custom_hooks = [
    dict(type='TwoPhaseTrainHook', warmup_iters=50, warmup_lr=1e-3, lr=5e-4),
    dict(type='PanelHook', num_images=16),
]
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=600, val_interval=600)
