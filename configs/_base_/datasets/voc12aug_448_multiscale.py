# VOC 2012 as in voc12aug_384.py, for SEAM: a random length of the longer side, jitter of colours, tests on the image as it is.
_base_ = './voc12aug_384.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    # Longer side 448 to 768.
    dict(
        type='RandomResize',
        scale=(768, 768),
        ratio_range=(448 / 768, 1.0),
        keep_ratio=True,
        resize_type='Resize',
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmpretrain.NumpyToPIL', to_rgb=True),
    dict(type='mmpretrain.torchvision/ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
    dict(type='mmpretrain.PILToNumpy', to_bgr=True),
    dict(
        type='RandomPadCrop', size=448, pad_val=(104, 116, 124)
    ),  # the mean colour in whole numbers, almost 0 normalised
    dict(type='PackWeakInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(
    batch_size=3,  # x 8 GPUs = 24
    num_workers=4,
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
