# As pmm_voc.py on the generated data, with small networks. configs/pretrain_shapes.py has to run first.
_base_ = './pmm_voc.py'
maps = '../pmm/seam_vit-xt8_1xb8-600_shapes-144x144.py'
crops = '../pmm/seam_vit-xt8_1xb8-600_shapes-144x144_mc-train.py'
first = '../pmm/fcn_vit-xt8_1xb16-600_shapes-pseudo_144x144.py'
second = '../pmm/fcn_vit-xt8_1xb16-600_shapes-pseudo_144x144_ce.py'
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
