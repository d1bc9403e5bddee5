# DeepLabV3 with the sizes that CoSA's code has for its second stage; the rest is as in deeplabv3plus_r101-d8.py.
_base_ = './deeplabv3plus_r101-d8.py'
model = dict(
    decode_head=dict(
        _delete_=True,  # the other head has arguments that this one does not take
        type='ASPPHead',
        in_channels=2048,
        in_index=3,
        channels=512,
        dilations=(1, 12, 24, 36),
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=dict(type='BN', requires_grad=True),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    )
)
