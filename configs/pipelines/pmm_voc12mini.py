# As pmm_voc.py on the small benchmark, with small networks.
_base_ = './pmm_voc.py'
maps = '../pmm/seam_deit-t16_1xb8-1300_voc12mini-224x224.py'
crops = '../pmm/seam_deit-t16_1xb8-1300_voc12mini-224x224_mc-train.py'
first = '../pmm/fcn_deit-t16_1xb16-2k_voc12mini-pseudo_224x224.py'
second = '../pmm/fcn_deit-t16_1xb16-2k_voc12mini-pseudo_224x224_ce.py'
configs = [maps, maps, crops, crops, first, first, second, second]
stages = [dict(stage, config=config) for stage, config in zip(_base_.stages, configs)]
stages[5].update(
    arguments=['--split', 'train', '--steps', 'cyclic'],
    options={
        'model.test_cfg.views.scales': [0.75, 1.0, 1.25],
        'model.test_cfg.views.flip': True,
        'train_dataloader.dataset.data_prefix.seg_map_path': 'SegmentationClass',  # for the logged score alone
    },
)
