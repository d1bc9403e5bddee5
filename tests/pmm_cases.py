"""Configs of PMM that are trained at a tiny size by the tests of their own; test_configs.py trains some others."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config
from tiny_configs import CONFIGS

from mmwsss.pseudo_labels.stored_maps import maps_path, write_maps
from mmwsss.registry import DATASETS

PMM = CONFIGS / 'pmm'
SEAM_TRAINED = [
    PMM / f'seam_{data}.py' for data in ('vit-xt8_1xb8-600_shapes-144x144', 'deit-t16_1xb8-1300_voc12mini-224x224')
]
MULTI_CROP_TRAINED = [path.with_stem(f'{path.stem}_mc-train') for path in SEAM_TRAINED]
AFFINITY_TRAINED = [
    PMM / f'affinity_{data}.py' for data in ('vit-xt8_1xb16-744_shapes-144x144', 'deit-t16_1xb16-448_voc12mini-224x224')
]
CYCLIC_TRAINED = PMM / 'fcn_vit-xt8_1xb16-600_shapes-pseudo_144x144_puf-cp.py'


def labels_step(cfg: Config) -> Config:
    """The step of an affinity network's pipeline that reads its labels."""
    (step,) = (step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'LoadAffinityLabels')
    return step


def write_exports(cfg: Config, root: Path) -> None:
    """Two exports of every image of ``cfg``: the left half is of class 1, the background wins in ``high`` only."""
    step = labels_step(cfg)
    for name, strength in (('low', 0.2), ('high', 0.7)):
        step[name] = str(root / name)
        dataset = DATASETS.build({**cfg.train_dataloader.dataset, 'pipeline': [dict(type='LoadImageFromFile')]})
        for item in dataset:
            maps = torch.zeros(2, *item['img'].shape[:2])
            maps[0] = strength
            maps[1, :, : maps.shape[2] // 2] = 1.0
            write_maps(maps_path(step[name], item['img_id']), maps, torch.tensor([0, 1]))
