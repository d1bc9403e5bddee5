# For the affinity network of PSA: a weak background, (1 - best class)^32, and a dense CRF; what is background even so is certain.
# Export with --maps; see psa_low.
pseudo_labeler = dict(
    steps=[
        dict(type='DropBackground'),
        dict(type='MaskAbsent'),
        dict(type='Resize', rule='align_corners'),
        dict(type='MinMaxNormalize'),
        dict(type='AddBackground', power=32.0),
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
