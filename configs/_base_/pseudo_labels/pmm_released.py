# Masks of PMM as released, of maps that are normalised already: as cvs_ppmg.py, but no peak is raised to 1 once more and the CRF
# sees the image in the order blue, green, red.
pseudo_labeler = dict(
    steps=[
        dict(type='DropBackground'),
        dict(type='MaskAbsent'),
        dict(type='Resize', rule='half_pixel'),
        dict(type='ProportionalMask', crf=dict(channel_order='bgr'), smoothing=dict()),
    ]
)
