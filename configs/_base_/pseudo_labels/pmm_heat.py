# Heat maps for the second training of PMM's network of maps: background (1 - best class)^24 and a dense CRF. Export with --maps.
pseudo_labeler = dict(
    steps=[
        dict(type='DropBackground'),
        dict(type='MaskAbsent'),
        dict(type='PeakNormalize'),
        dict(type='Resize', rule='half_pixel'),
        dict(type='AddBackground', power=24.0),
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
