_base_ = './vitpcm_vit-b16_4xb16-13k_voc12aug-384x384.py'
# What the released code does where it differs: labels from the resized mask, background included; validation at 384 px
# every epoch with image labels; the checkpoint with the best validation mIoU is kept and training stops 60 epochs after it;
# maps are enlarged with mirrored half-pixel borders before the CRF, in which
# absent classes take part.
model = dict(
    pseudo_labeler=dict(
        steps=[
            dict(type='MaskAbsent'),
            dict(type='PeakNormalize'),
            dict(type='Distribution'),
            dict(type='Resize', rule='skimage'),
            dict(type='Refine', refiner=dict(type='DenseCRF'), prune=False),
            dict(type='Decide'),
        ]
    )
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='ResizeAlignCorners', size=384),
    dict(type='ImageLabelsFromMask', num_classes=21),
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
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='ResizeAlignCorners', size=384, resize_mask=False),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
# 72 batches of 20 images: the last 9 of the 1449 are never looked at.
val_dataloader = dict(dataset=dict(pipeline=val_pipeline, indices=1440))
test_dataloader = dict(
    dataset=dict(ann_file='ImageSets/Segmentation/train.txt', data_prefix=dict(seg_map_path='SegmentationClass'))
)
train_cfg = dict(val_interval=165)
default_hooks = dict(checkpoint=dict(interval=165, save_best='maps_mIoU+tags', rule='greater'))
custom_hooks = [
    dict(type='TwoPhaseTrainHook', warmup_epochs=1, warmup_lr=1e-3, lr=1e-4),
    dict(type='PanelHook', num_images=16),
    dict(type='EarlyStoppingHook', monitor='maps_mIoU+tags', rule='greater', patience=60),
]
