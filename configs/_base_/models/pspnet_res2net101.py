# PSPNet on Res2Net-101 v1b 26w 4s of mmpretrain; the rest is as in pspnet_resnet38d.py. MMWSSS_RES2NET101_WEIGHTS names ImageNet
# weights that tools/model_converters/pmm_seg_to_mmwsss.py converted.
_base_ = './pspnet_resnet38d.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.Res2Net',
        depth=101,
        scales=4,
        base_width=26,
        deep_stem=True,
        avg_down=True,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        out_indices=(0, 1, 2, 3),
        init_cfg=dict(
            type='Pretrained', checkpoint='{{$MMWSSS_RES2NET101_WEIGHTS:pretrained/res2net101_v1b_26w_4s_mmwsss.pth}}'
        ),
    ),
    decode_head=dict(in_channels=2048),
)
