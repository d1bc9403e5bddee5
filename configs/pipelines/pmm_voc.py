# PMM on VOC 2012: a network of maps, a second one trained on crops that the first one's maps label, proportional masks of its
# smoothed maps, a segmentation network with pretended under-fitting, and another one on the masks that this one predicts.
maps = '../pmm/seam_resnet38d_8xb3-3520_voc12aug-448x448.py'
crops = '../pmm/seam_scalenet101_8xb2-13k_voc12aug-448x448_mc-train.py'
first = '../pmm/pspnet_resnet38d_8xb2-20k_voc12aug-pseudo_512x512.py'
second = '../pmm/pspnet_resnet38d_8xb2-20k_voc12aug-pseudo_512x512_ce.py'
stages = [
    dict(name='maps', kind='train', config=maps),
    dict(
        name='heat',
        kind='export',
        config=maps,
        checkpoint='{maps}',
        arguments=['--split', 'train', '--steps', 'pmm_heat', '--maps'],
    ),
    dict(name='crops', kind='train', config=crops, env=dict(MMWSSS_HEAT_MAPS='{heat}/maps')),
    dict(
        name='masks',
        kind='export',
        config=crops,
        checkpoint='{crops}',
        arguments=['--split', 'train', '--steps', 'cvs_ppmg'],
        env=dict(MMWSSS_HEAT_MAPS='{heat}/maps'),
    ),
    dict(name='segmentation', kind='train', config=first, env=dict(MMWSSS_PSEUDO_MASKS='{masks}/masks')),
    dict(
        name='renewed',
        kind='export',
        config=first,
        checkpoint='{segmentation}',
        arguments=['--split', 'train'],
        options={
            'train_dataloader.dataset.data_prefix.seg_map_path': 'SegmentationClassAug'
        },  # for the logged score alone
    ),
    dict(name='second', kind='train', config=second, env=dict(MMWSSS_PSEUDO_MASKS='{renewed}/masks')),
    dict(
        name='scores',
        kind='test',
        config=second,
        checkpoint='{second}',
        env=dict(MMWSSS_PSEUDO_MASKS='{renewed}/masks'),
    ),
]
