# ViT-PCM, its pseudo masks refined by the dense CRF, and a segmentation network that learns from them.
stages = [
    dict(name='maps', kind='train', config='../vitpcm_voc12mini.py'),
    dict(
        name='masks',
        kind='export',
        config='../vitpcm_voc12mini.py',
        checkpoint='{maps}',
        arguments=['--split', 'train', '--steps', 'crf'],
    ),
    dict(
        name='segmentation',
        kind='train',
        config='../stage2/fcn_deit-t16_1xb16-2k_voc12mini-pseudo_224x224.py',
        env=dict(MMWSSS_PSEUDO_MASKS='{masks}/masks'),
    ),
    dict(
        name='scores',
        kind='test',
        config='../stage2/fcn_deit-t16_1xb16-2k_voc12mini-pseudo_224x224.py',
        checkpoint='{segmentation}',
        env=dict(MMWSSS_PSEUDO_MASKS='{masks}/masks'),
    ),
]
