_base_ = './vitpcm_vit-b16_4xb16-13k_voc12aug-384x384.py'
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='ResizeAlignCorners', size=384, resize_mask=False),
    dict(type='PackWeakInputs'),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
