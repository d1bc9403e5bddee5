# PMM on the generated data with the affinity network in the place of proportional masks, which the release has and does not call.
_base_ = './acr_affinity_voc.py'
maps = '../pmm/seam_vit-xt8_1xb8-600_shapes-144x144.py'
affinity = '../pmm/affinity_vit-xt8_1xb16-744_shapes-144x144.py'
segmentation = '../pmm/fcn_vit-xt8_1xb16-600_shapes-pseudo_144x144.py'
configs = [maps, maps, maps, affinity, maps, segmentation, segmentation]
stages = [dict(stage, config=config) for stage, config in zip(_base_.stages, configs)]
stages[4]['env'] = dict(
    stages[4]['env'], MMWSSS_AFFINITY_CONFIG='configs/pmm/affinity_vit-xt8_1xb16-744_shapes-144x144.py'
)
