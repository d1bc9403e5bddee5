# ViT-PCM on VOC 2012, its pseudo masks refined by the dense CRF, and DeepLabV3+ that learns from them.
stages = [
    dict(name='maps', kind='train', config='../vitpcm_voc.py'),
    dict(
        name='masks',
        kind='export',
        config='../vitpcm_voc.py',
        checkpoint='{maps}',
        arguments=['--split', 'train', '--steps', 'crf'],
    ),
    dict(
        name='segmentation',
        kind='train',
        config='../stage2/deeplabv3plus_r101-d8_4xb4-20k_voc12aug-pseudo_512x512.py',
        env=dict(MMWSSS_PSEUDO_MASKS='{masks}/masks'),
    ),
    dict(
        name='scores',
        kind='test',
        config='../stage2/deeplabv3plus_r101-d8_4xb4-20k_voc12aug-pseudo_512x512.py',
        checkpoint='{segmentation}',
        env=dict(MMWSSS_PSEUDO_MASKS='{masks}/masks'),
    ),
]
