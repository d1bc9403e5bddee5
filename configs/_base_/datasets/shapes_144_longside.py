# Generated data as in shapes_144.py, for ACR: a random length of the longer side.
_base_ = './shapes_144.py'
train_pipeline = [
    dict(type='LoadImageFromFile', to_float32=True),
    dict(type='RandomResizeLong', long_range=(129, 164)),  # 0.9 to 1 / 0.875 times the crop
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomPadCrop', size=144, pad_val=(103.53, 116.28, 123.675)),  # the mean colour, 0 once normalised
    dict(type='PackWeakInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', to_float32=True),
    dict(type='Resize', scale=(144, 144), keep_ratio=False),
    dict(type='LoadAnnotations'),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(
    batch_size=16,  # x 1 GPU
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
