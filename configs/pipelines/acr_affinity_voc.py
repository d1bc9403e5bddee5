# ACR on VOC 2012: its maps, certain pixels of them, an affinity network that learns from these, masks by a random walk along its
# affinities, and DeepLabV2 that learns from the masks.
maps = '../acr/acr_vit-b16-hybrid_4xb1-26k_voc12aug-384x384.py'
affinity = '../pmm/affinity_resnet38d_4xb4-5288_voc12aug-448x448.py'
segmentation = '../stage2/deeplabv2_resnet38d-d8_4xb4-20k_voc12aug-pseudo_512x512.py'
certain = dict(MMWSSS_AFFINITY_LOW='{low}/maps', MMWSSS_AFFINITY_HIGH='{high}/maps')
stages = [
    dict(name='maps', kind='train', config=maps),
    dict(
        name='low',
        kind='export',
        config=maps,
        checkpoint='{maps}',
        arguments=['--split', 'train', '--steps', 'psa_low', '--maps'],
    ),
    dict(
        name='high',
        kind='export',
        config=maps,
        checkpoint='{maps}',
        arguments=['--split', 'train', '--steps', 'psa_high', '--maps'],
    ),
    dict(name='affinity', kind='train', config=affinity, env=certain),
    dict(
        name='masks',
        kind='export',
        config=maps,
        checkpoint='{maps}',
        arguments=['--split', 'train', '--steps', 'psa_walk'],
        env=dict(
            certain,
            MMWSSS_AFFINITY_CONFIG='configs/pmm/affinity_resnet38d_4xb4-5288_voc12aug-448x448.py',
            MMWSSS_AFFINITY_CHECKPOINT='{affinity}',
        ),
    ),
    dict(name='segmentation', kind='train', config=segmentation, env=dict(MMWSSS_PSEUDO_MASKS='{masks}/masks')),
    dict(
        name='scores',
        kind='test',
        config=segmentation,
        checkpoint='{segmentation}',
        env=dict(MMWSSS_PSEUDO_MASKS='{masks}/masks'),
    ),
]
