# Upper reference: the same backbone, data and schedule with the true masks of the training images.
_base_ = [
    '../_base_/datasets/voc12mini_224.py',
    '../_base_/schedules/vitpcm_two_phase.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='WeakSegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(
        type='TokenViT',
        arch='vit-t',
        img_size=224,
        patch_size=16,
        num_trainable_blocks=5,
        pos_interp='tf',
        init_cfg=dict(
            type='Pretrained', checkpoint='{{$MMWSSS_BENCH_DIR:../shared}}/weights/deit_tiny_patch16_224_in1k_fp16.pth'
        ),
    ),
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
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='ResizeAlignCorners', size=224),
    dict(
        type='TwoViews',
        second_view=False,
        flip_ud_prob=0.0,
        transpose_prob=0.0,
        color=dict(contrast=(0.7, 1.4), saturation=(0.6, 1.4), hue=0.05, gray_prob=0.1),
    ),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=2000, val_interval=1000)
