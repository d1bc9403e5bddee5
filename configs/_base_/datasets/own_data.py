# Images and tags of your own, nothing else, see docs/own_data.md. MMWSSS_DATA_ROOT is the folder; its classes are read from the
# tags (or classes.txt), so own_data.num_classes is what the heads of a model need. Where there are masks they are for scores only.
_base_ = []  # before an import, which would make mmengine take this for a config of its newer kind
import pkgutil  # noqa: E402

own_data = pkgutil.resolve_name('mmwsss.datasets.own_data:find_own_data')('{{$MMWSSS_DATA_ROOT:data/own}}').config()
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeAlignCorners', size=224),
    dict(
        type='TwoViews',
        view_2_size=112,
        crop_size=80,
        crop_prob=0.3,
        crop_grid=16,
        flip_ud_prob=0.0,
        transpose_prob=0.0,
        color=dict(contrast=(0.7, 1.4), saturation=(0.6, 1.4), hue=0.05, gray_prob=0.1),
    ),
    dict(type='PackWeakInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    *([dict(type='LoadAnnotations')] if own_data['has_masks'] else []),
    dict(type='ResizeAlignCorners', size=448, resize_mask=False),
    dict(type='PackWeakInputs'),
]
train_dataloader = dict(
    batch_size=16,  # x 1 GPU
    num_workers=2,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='ResumableInfiniteSampler', shuffle=True),
    dataset=dict(own_data['train'], pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(own_data['val'], pipeline=test_pipeline, test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='WSSSMetric')
test_evaluator = val_evaluator
