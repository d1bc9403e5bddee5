_base_ = './vitpcm_vit-b16_4xb16-13k_voc12aug-384x384.py'
# 48x48 patches: four times the tokens. Only AugReg weights exist, made at 224 px.
model = dict(
    backbone=dict(
        patch_size=8,
        init_cfg=dict(
            checkpoint='https://storage.googleapis.com/vit_models/augreg/B_8-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03-res_224.npz'
        ),
    )
)
