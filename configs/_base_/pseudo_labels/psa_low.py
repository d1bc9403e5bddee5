# For the affinity network of PSA: a strong background, (1 - best class)^4, and a dense CRF; what still is foreground is certain.
# Exponents of PSA, as those of PMM's release are not known. Export with --maps, and a second time with psa_high.
pseudo_labeler = dict(
    steps=[
        dict(type='DropBackground'),
        dict(type='MaskAbsent'),
        dict(type='Resize', rule='align_corners'),
        dict(type='MinMaxNormalize'),
        dict(type='AddBackground', power=4.0),
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
