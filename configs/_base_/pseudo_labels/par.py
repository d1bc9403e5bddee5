# Pixel-adaptive refinement of the maps of present classes; the background is the map's own or the setting of test_cfg.
pseudo_labeler = dict(
    steps=[
        dict(type='MaskAbsent'),
        dict(type='PeakNormalize'),
        dict(type='AddBackground'),
        dict(type='Distribution'),
        dict(type='Resize', rule='align_corners'),
        dict(type='Refine', refiner=dict(type='PAR')),
        dict(type='Decide'),
    ]
)
