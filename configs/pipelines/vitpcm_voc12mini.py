# As vitpcm_voc.py on the small benchmark, with a small segmentation network.
_base_ = './vitpcm_voc.py'
stages = [
    dict(stage, config=config)
    for stage, config in zip(
        _base_.stages,
        ['../vitpcm_voc12mini.py'] * 2 + ['../stage2/fcn_deit-t16_1xb16-2k_voc12mini-pseudo_224x224.py'] * 2,
    )
]
