# APC on COCO 2014: 81 classes, twice the iterations; 2 epochs of warm-up are 10260 of them.
_base_ = [
    '../_base_/models/apc_vit-b16.py',
    '../_base_/datasets/coco14_384_scaled.py',
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
    head=dict(num_classes=81),
    decode_head=dict(num_classes=81),
    warmup_iters=10260,
    test_cfg=dict(views=dict(scales=(1.0, 1.25, 1.5), flip=True)),
)
param_scheduler = [dict(type='WarmupPolyLR', max_iters=40000, warmup_iters=1500, warmup_ratio=1e-6, power=0.9)]
train_cfg = dict(max_iters=40000, val_interval=40000)
