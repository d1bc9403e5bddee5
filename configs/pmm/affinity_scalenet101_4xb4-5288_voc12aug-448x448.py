# The affinity network of PMM's release on ScaleNet-101. MMWSSS_SCALENET101_WEIGHTS names ImageNet weights with the official names.
_base_ = './affinity_resnet38d_4xb4-5288_voc12aug-448x448.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='ScaleNet',
        init_cfg=dict(type='Pretrained', checkpoint='{{$MMWSSS_SCALENET101_WEIGHTS:pretrained/scalenet101.pth}}'),
    ),
    head=dict(in_channels=(512, 1024, 2048), tap_channels=(64, 64, 64)),
)
