# Random walk of the maps of present classes along the affinity of a trained network (PSA), with the exponents and steps of PMM's
# release; PSA itself has a background exponent of 16 and 2^8 steps. MMWSSS_AFFINITY_CONFIG and MMWSSS_AFFINITY_CHECKPOINT name
# the network.
pseudo_labeler = dict(
    steps=[
        dict(type='DropBackground'),
        dict(type='MaskAbsent'),
        dict(type='Resize', rule='align_corners'),
        dict(type='MinMaxNormalize'),
        dict(type='AddBackground', power=6.0),
        dict(
            type='Refine',
            refiner=dict(
                type='RandomWalk',
                affinity=dict(
                    type='NetworkAffinity',
                    config='{{$MMWSSS_AFFINITY_CONFIG:configs/pmm/affinity_resnet38d_4xb4-5288_voc12aug-448x448.py}}',
                    checkpoint='{{$MMWSSS_AFFINITY_CHECKPOINT:work_dirs/affinity_resnet38d_4xb4-5288_voc12aug-448x448}}',
                ),
                beta=8.0,
                logt=6,
                stride=8,
            ),
        ),
        dict(type='Decide'),
    ]
)
