# COCO 2014 in the views of ViT-PCM, of which view 2 is never cropped.
_base_ = ['./voc12aug_384.py', './coco14.py']
data_root = _base_.coco_train.data_root
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeAlignCorners', size=384),
    dict(
        type='TwoViews',
        view_2_size=192,
        crop_size=128,
        crop_prob=0.0,
        crop_grid=16,
        color=dict(brightness=0.2, contrast=(0.5, 2.0), saturation=(0.5, 1.5), hue=0.1, gray_prob=0.1),
    ),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(dataset=dict(_base_.coco_train, pipeline=train_pipeline))
val_dataloader = dict(dataset=_base_.coco_val)
test_dataloader = val_dataloader
