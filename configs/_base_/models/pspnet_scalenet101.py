# PSPNet on ScaleNet-101; the rest is as in pspnet_resnet38d.py. MMWSSS_SCALENET101_WEIGHTS names ImageNet weights with the
# official names.
_base_ = './pspnet_resnet38d.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='ScaleNet',
        dilations=(1, 1, 2, 4),
        frozen_stages=0,
        norm_eval=False,
        init_cfg=dict(type='Pretrained', checkpoint='{{$MMWSSS_SCALENET101_WEIGHTS:pretrained/scalenet101.pth}}'),
    ),
    decode_head=dict(in_channels=2048),
)
