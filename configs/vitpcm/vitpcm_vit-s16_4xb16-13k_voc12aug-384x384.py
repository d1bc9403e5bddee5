_base_ = './vitpcm_vit-b16_4xb16-13k_voc12aug-384x384.py'
model = dict(
    backbone=dict(
        arch='vit-s',
        init_cfg=dict(
            checkpoint='https://storage.googleapis.com/vit_models/augreg/S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03-res_384.npz'
        ),
    ),
    neck=dict(in_channels=384),
)
