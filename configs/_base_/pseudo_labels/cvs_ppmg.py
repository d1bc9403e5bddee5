# Smoothing by the coefficient of variation and proportional masks (PMM) of the maps of present classes.
pseudo_labeler = dict(
    steps=[
        dict(type='DropBackground'),
        dict(type='MaskAbsent'),
        dict(type='PeakNormalize'),
        dict(type='Resize', rule='align_corners'),
        dict(type='ProportionalMask', smoothing=dict()),
    ]
)
