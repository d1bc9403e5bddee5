data_preprocessor = dict(
    type='WeakSegDataPreProcessor', mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], bgr_to_rgb=True
)
model = dict(
    type='ViTPCM',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='TokenViT',
        arch='vit-b',
        img_size=384,
        patch_size=16,
        drop_rate=0.1,
        num_trainable_blocks=5,
        pos_interp='tf',
    ),
    neck=dict(type='HVBiLSTM', in_channels=768, hidden=192, dropout=0.2, directions='hv'),
    head=dict(
        type='PatchClassHead', in_channels=768, num_classes=21, dropout=0.2, pooling=dict(type='GlobalMaxPooling')
    ),
    loss_mce=dict(type='MultiLabelClsLoss', eps=1e-7, loss_weight=1.0),
    loss_reg=dict(type='ClassifierL2', factor=0.01),
    loss_et=dict(type='EquivarianceLoss', use_labels=True, eps=1e-7, loss_weight=1.0),
    teacher='eval',
    test_cfg=dict(bg_setting=1.0, use_image_labels=True, upsample='align_corners'),
)
