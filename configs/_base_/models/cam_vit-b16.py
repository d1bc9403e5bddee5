data_preprocessor = dict(
    type='WeakSegDataPreProcessor', mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], bgr_to_rgb=True
)
model = dict(
    type='CAMClassifier',
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
    head=dict(type='CAMHead', in_channels=768, num_classes=21),
    test_cfg=dict(bg_setting=0.3, label_threshold=0.5, use_image_labels=True, upsample='align_corners'),
)
