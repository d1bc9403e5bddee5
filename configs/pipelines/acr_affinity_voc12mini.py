# As acr_affinity_voc.py on the small benchmark, with small networks.
_base_ = './acr_affinity_voc.py'
maps = '../acr/acr_deit-t16_1xb8-1300_voc12mini-224x224.py'
affinity = '../pmm/affinity_deit-t16_1xb16-448_voc12mini-224x224.py'
segmentation = '../stage2/fcn_deit-t16_1xb16-2k_voc12mini-pseudo_224x224.py'
configs = [maps, maps, maps, affinity, maps, segmentation, segmentation]
stages = [dict(stage, config=config) for stage, config in zip(_base_.stages, configs)]
stages[4]['env'] = dict(
    stages[4]['env'], MMWSSS_AFFINITY_CONFIG='configs/pmm/affinity_deit-t16_1xb16-448_voc12mini-224x224.py'
)
