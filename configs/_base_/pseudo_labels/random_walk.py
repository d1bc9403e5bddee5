# Random walk of the maps of present classes along an affinity of colours, then a dense CRF. Exponent, number of steps and
# background of the walk are those of the pre-release scripts of ACR, whose affinity came from a trained network (IRN); the
# CRF is that of its released code.
pseudo_labeler = dict(
    steps=[
        dict(type='MaskAbsent'),
        dict(type='Resize', rule='align_corners'),
        dict(type='MinMaxNormalize', eps=1e-6),
        dict(type='AddBackground', threshold=0.4),
        dict(
            type='Refine',
            refiner=dict(
                type='RandomWalk',
                affinity=dict(type='ColourAffinity', radius=5, deviation=40.0),
                beta=10.0,
                logt=8,
                stride=8,
            ),
        ),
        dict(type='Distribution'),
        dict(
            type='Refine',
            refiner=dict(
                type='DenseCRF',
                iterations=10,
                gaussian_weight=3.0,
                gaussian_xy=3.0,
                bilateral_weight=10.0,
                bilateral_xy=80.0,
                bilateral_rgb=13.0,
            ),
        ),
        dict(type='Decide'),
    ]
)
