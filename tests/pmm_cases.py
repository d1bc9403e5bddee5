"""Configs of PMM that are trained at a tiny size by the tests of their own; test_configs.py trains some others."""

from __future__ import annotations

from tiny_configs import CONFIGS

PMM = CONFIGS / 'pmm'
SEAM_TRAINED = [
    PMM / f'seam_{data}.py' for data in ('vit-xt8_1xb8-600_shapes-144x144', 'deit-t16_1xb8-1300_voc12mini-224x224')
]
MULTI_CROP_TRAINED = [path.with_stem(f'{path.stem}_mc-train') for path in SEAM_TRAINED]
AFFINITY_TRAINED = [
    PMM / f'affinity_{data}.py' for data in ('vit-xt8_1xb16-744_shapes-144x144', 'deit-t16_1xb16-448_voc12mini-224x224')
]
CYCLIC_TRAINED = PMM / 'fcn_vit-xt8_1xb16-600_shapes-pseudo_144x144_puf-cp.py'
