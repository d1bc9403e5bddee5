# Affinity network of PSA on ResNet38d, as in PMM's release.
data_preprocessor = dict(
    type='WeakSegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
)
model = dict(
    type='AffinityNetwork',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='ResNet38d',
        init_cfg=dict(type='Pretrained', checkpoint='{{$MMWSSS_RESNET38D_WEIGHTS:pretrained/res38d.pth}}'),
    ),
    head=dict(type='AffinityHead', in_channels=(512, 1024, 4096), tap_channels=(64, 128, 256)),
    loss_affinity=dict(type='AffinityLoss'),
    in_index=(1, 2, 3),
    radius=5,
)
