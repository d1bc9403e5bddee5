# With ViT-PCM's equivariance loss, and its two views of the whole image instead of scaled crops.
# _delete_: the canonical config has None there.
_base_ = './apc_vit-b16_1xb16-20k_voc12aug-384x384.py'
model = dict(loss_et=dict(_delete_=True, type='EquivarianceLoss', use_labels=True, eps=1e-7, loss_weight=1.0))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeAlignCorners', size=384),
    dict(
        type='TwoViews',
        view_2_size=192,
        crop_size=128,
        crop_prob=0.3,
        crop_grid=16,
        color=dict(brightness=0.2, contrast=(0.5, 2.0), saturation=(0.5, 1.5), hue=0.1, gray_prob=0.1),
    ),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
