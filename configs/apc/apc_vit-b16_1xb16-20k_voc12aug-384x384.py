# APC in one stage: adaptive-K pooling, patch contrast, decoder trained online.
_base_ = [
    '../_base_/models/apc_vit-b16.py',
    '../_base_/datasets/voc12aug_384_scaled.py',
    '../_base_/schedules/adamw_poly_20k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        num_trainable_blocks=None,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://storage.googleapis.com/vit_models/imagenet21k%2Bimagenet2012/ViT-B_16.npz',
        ),
    ),
    test_cfg=dict(views=dict(scales=(1.0, 1.25, 1.5), flip=True)),
)
