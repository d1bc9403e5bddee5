# Upper reference: the same backbone, data and schedule with the true masks of the training images.
_base_ = [
    '../_base_/backbones/deit-t16_voc12mini.py',
    '../_base_/datasets/voc12mini_224_oneview.py',
    '../_base_/schedules/vitpcm_two_phase.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='WeakSegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(_base_.pretrained_backbone, type='TokenViT', patch_size=16, num_trainable_blocks=5, pos_interp='tf'),
    decode_head=dict(
        type='FCNHead',
        in_channels=192,
        in_index=-1,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=dict(type='BN', requires_grad=True),
        align_corners=True,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
train_pipeline = [_base_.train_pipeline[0], dict(type='LoadAnnotations'), *_base_.train_pipeline[1:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=2000, val_interval=1000)
