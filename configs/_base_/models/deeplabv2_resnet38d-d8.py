# DeepLabV2 on ResNet38d, dilated as in PMM's segmentation network. MMWSSS_RESNET38D_WEIGHTS names ImageNet weights with the official
# names.
_base_ = './deeplabv2_r101-d8.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet38d',
        last_dilation=4,
        frozen_stages=0,
        norm_eval=False,
        init_cfg=dict(type='Pretrained', checkpoint='{{$MMWSSS_RESNET38D_WEIGHTS:pretrained/res38d.pth}}'),
    ),
    decode_head=dict(in_channels=4096),
)
