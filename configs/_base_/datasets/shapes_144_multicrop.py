# Training samples for the second training of PMM, beside shapes_144_multiscale.py: crops as in
# voc12aug_448_multicrop.py, of fewer scales.
_base_ = './voc12aug_448_multicrop.py'
multi_crop_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(_base_.multi_crop_pipeline[1], scales=(1.0, 1.25, 1.5, 2.0), crop_size=144, stride=96),
    *_base_.multi_crop_pipeline[2:6],  # flip and jitter of colours
    dict(type='Resize', scale=(144, 144), keep_ratio=False, backend='pillow'),
    dict(type='PackWeakInputs'),
]
