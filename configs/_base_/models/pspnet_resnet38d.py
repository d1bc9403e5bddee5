# PSPNet on ResNet38d with pretended under-fitting in both heads, and the test of PMM's release: 12 views, windows of 512
# pixels, a dense CRF on the mean probabilities. MMWSSS_RESNET38D_WEIGHTS names ImageNet weights with the official names.
norm_cfg = dict(type='BN', requires_grad=True)
sync_bn = 'torch'  # batch norm over all processes of a distributed run
data_preprocessor = dict(
    type='WeakSegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(512, 512),
)
loss = dict(type='UnderFittingCrossEntropyLoss', form='clamp', beta=0.5, k=0.5)
model = dict(
    type='MultiViewEncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='ResNet38d',
        last_dilation=4,
        frozen_stages=0,
        norm_eval=False,
        init_cfg=dict(type='Pretrained', checkpoint='{{$MMWSSS_RESNET38D_WEIGHTS:pretrained/res38d.pth}}'),
    ),
    decode_head=dict(
        type='PSPHead',
        in_channels=4096,
        in_index=3,
        channels=512,
        pool_scales=(1, 2, 3, 6),
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=loss,
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=1024,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(loss, loss_weight=0.4),
    ),
    pseudo_labeler=dict(steps=[dict(type='Refine', refiner=dict(type='DenseCRF')), dict(type='Decide')]),
    train_cfg=dict(),
    test_cfg=dict(
        mode='slide',
        crop_size=(512, 512),
        stride=(480, 480),
        views=dict(scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75), flip=True, base=(2048, 512)),
    ),
)
