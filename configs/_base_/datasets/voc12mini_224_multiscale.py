# The small VOC benchmark as in voc12mini_224.py, for SEAM: a random length of the longer side, jitter of colours, tests on the squashed image.
_base_ = './voc12mini_224.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    # Longer side 224 to 384.
    dict(
        type='RandomResize',
        scale=(384, 384),
        ratio_range=(224 / 384, 1.0),
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
        type='RandomPadCrop', size=224, pad_val=(104, 116, 124)
    ),  # the mean colour in whole numbers, almost 0 normalised
    dict(type='PackWeakInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(320, 320), keep_ratio=False, backend='pillow'),
    dict(type='LoadAnnotations'),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(
    batch_size=8,  # x 1 GPU
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
