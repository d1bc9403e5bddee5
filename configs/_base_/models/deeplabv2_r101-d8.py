# DeepLabV2 on mmseg's ResNet-101: four dilated classifiers on the last stage, which are summed; no auxiliary head.
_base_ = './deeplabv3plus_r101-d8.py'
model = dict(
    decode_head=dict(
        _delete_=True,  # the other head has arguments that this one does not take
        type='ASPPSumHead',
        in_channels=2048,
        in_index=3,
        num_classes=21,
        dilations=(6, 12, 18, 24),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=None,
)
