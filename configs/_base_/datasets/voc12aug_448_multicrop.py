# Training samples for SEAM's second training in PMM, beside voc12aug_448_multiscale.py: crops of ten scales whose labels follow
# stored maps of the first training: tools/generate_pseudo_labels.py with --maps --steps pmm_heat. MMWSSS_HEAT_MAPS names their folder
# maps/.
multi_crop_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='MultiCropSample',
        maps_dir='{{$MMWSSS_HEAT_MAPS:work_dirs/heat/maps}}',
        scales=(0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0),
        crop_size=448,
        stride=300,
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmpretrain.NumpyToPIL', to_rgb=True),
    dict(type='mmpretrain.torchvision/ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
    dict(type='mmpretrain.PILToNumpy', to_bgr=True),
    dict(type='Resize', scale=(448, 448), keep_ratio=False, backend='pillow'),
    dict(type='PackWeakInputs'),
]
