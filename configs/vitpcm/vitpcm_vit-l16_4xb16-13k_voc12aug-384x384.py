_base_ = './vitpcm_vit-b16_4xb16-13k_voc12aug-384x384.py'
model = dict(
    backbone=dict(
        arch='vit-l',
        init_cfg=dict(checkpoint='https://storage.googleapis.com/vit_models/imagenet21k%2Bimagenet2012/ViT-L_16.npz'),
    ),
    neck=dict(in_channels=1024),
)
