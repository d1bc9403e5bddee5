# ACR on a plain ViT-B/16. The classifier reads what leaves the last block, without the final norm, and images are normalised
# by ImageNet's mean and deviation, both as in the released code.
data_preprocessor = dict(
    type='WeakSegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
)
model = dict(
    type='ACR',
    data_preprocessor=data_preprocessor,
    backbone=dict(type='TokenViT', arch='vit-b', img_size=384, patch_size=16, pos_interp='bilinear', final_norm=False),
    head=dict(type='ClassTokenHead', in_channels=768, num_classes=21),
    loss_cls=dict(type='MultiLabelSoftMarginLoss'),
    consistency=dict(
        type='ViewPairConsistency',
        transform='hflip',
        layers='all',
        activation='class_token',
        loss_activation=dict(type='ConsistencyLoss', norm='l1', loss_weight=125.0),
        loss_affinity=dict(type='ConsistencyLoss', norm='l1', loss_weight=125.0),
    ),
    test_cfg=dict(
        bg_setting=0.4,
        localizer='gradient',
        form='grad',
        start_layer=-2,
        affinity=True,
        upsample='align_corners',
        views=dict(scales=(1.0,), flip=True),
    ),
)
