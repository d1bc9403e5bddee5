# SEAM on ResNet38d as in PMM's release: three of its features are read, dropout before the classifier, images normalised by
# ImageNet's mean and deviation. Maps are those of four scales and their mirror images.
data_preprocessor = dict(
    type='WeakSegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
)
model = dict(
    type='SEAM',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='ResNet38d',
        init_cfg=dict(type='Pretrained', checkpoint='{{$MMWSSS_RESNET38D_WEIGHTS:pretrained/res38d.pth}}'),
    ),
    head=dict(type='SEAMHead', in_channels=(512, 1024, 4096), num_classes=21, dropout=0.5),
    loss_cls=dict(type='MultiLabelSoftMarginLoss'),
    loss_equivariance=dict(type='EquivariantRegularization'),
    loss_min_pool=dict(type='MinPoolingLoss'),
    second_scale=0.3,
    test_cfg=dict(bg_setting=0.15, views=dict(scales=(0.5, 1.0, 1.5, 2.0), flip=True)),
)
