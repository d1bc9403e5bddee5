# APC in one stage. Settings of the pooling, the contrast and the decoder are our choice; see docs/apc.md.
_base_ = './vitpcm_vit-b16.py'
model = dict(
    type='APC',
    head=dict(pooling=dict(type='AdaptiveKPooling', rule='ratio', tau=0.9, kmin=2, kmax=10)),
    loss_mce=dict(eps_in_log=False),
    loss_reg=None,
    loss_et=None,
    loss_pce=dict(type='PatchContrastLoss', high=0.85, include_bg=True, loss_weight=0.1),
    embedding='neck',
    decode_head=dict(type='LargeFOVHead', in_channels=768, channels=512, num_classes=21, dilation=5),
    loss_seg=dict(type='BalancedCELoss', fg_weight=0.5, loss_weight=0.1),
    online_labeler=dict(
        steps=[
            dict(type='MaskAbsent'),
            dict(type='Distribution'),
            dict(type='Resize', rule='half_pixel'),
            dict(type='Refine', refiner=dict(type='PAR')),
            dict(type='Decide', bg_setting=1.0),
            dict(type='IgnoreOutsideBox'),
        ]
    ),
    test_cfg=dict(upsample='half_pixel'),  # as the decoder is trained
    warmup_iters=1323,  # 2 epochs of VOC's 10582 images at batch 16
)
