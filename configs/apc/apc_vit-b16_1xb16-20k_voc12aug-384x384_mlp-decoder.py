# SegFormer's decoder on the last tokens: two layers on single patches instead of dilated convolutions.
# _delete_: another class.
_base_ = './apc_vit-b16_1xb16-20k_voc12aug-384x384.py'
model = dict(
    decode_head=dict(
        _delete_=True,
        type='SegformerHead',
        in_channels=[768],
        in_index=[0],
        channels=256,
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=dict(type='BN'),
    )
)
