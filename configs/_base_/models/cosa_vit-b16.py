# CoSA without the three techniques that only the paper has; the thresholds, weights and scales are those of the released
# code. The aux head reads the output of block 8 (aux_layer -4).
data_preprocessor = dict(
    type='WeakSegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
)
model = dict(
    type='CoSA',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='TokenViT',
        arch='vit-b',
        img_size=224,
        patch_size=16,
        pos_interp='torch',
        freeze_pos_embed=True,
        out_indices=[8, 11],
    ),
    head=dict(type='CAMHead', in_channels=768, num_classes=21, pooling=dict(type='GlobalMaxPooling'), init_std=None),
    aux_head=dict(
        type='CAMHead', in_channels=768, num_classes=21, pooling=dict(type='GlobalMaxPooling'), init_std=None
    ),
    decode_head=dict(type='LargeFOVHead', in_channels=768, channels=512, num_classes=21, dilation=5),
    threshold=dict(type='FixedThreshold', high=0.7, low=0.25),
    aux_threshold=dict(type='FixedThreshold', high=0.7, low=0.25),
    loss_cls=dict(type='MultiLabelSoftMarginLoss'),
    loss_c2s=dict(type='BalancedCELoss', fg_weight=0.5, loss_weight=0.1),
    loss_s2c=dict(type='SegToCAMLoss', version='v1', loss_weight=0.05),
    loss_energy=dict(type='DenseEnergyLoss', factor=1e-7, sigma_rgb=15, sigma_xy=100, scale=0.5, loss_weight=0.05),
    warmup_iters=6000,
    momentum=0.9994,
    scales=(1.0, 0.5, 1.5),
    aux_cam2seg=0.5,
    test_cfg=dict(bg_setting=0.5, views=dict(scales=(1.0, 0.5, 1.5, 0.75, 1.25), flip=True)),
)
