"""One training step of every method at a tiny size, for tests of what all methods have to keep to."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from tiny_configs import ARCH, BATCH, CONFIGS, load_config, tiny_config, write_data
from torch import Tensor, nn

from mmwsss.registry import DATASETS, MODELS

METHODS = {
    'cam': 'cam/cam_vit-xt8_1xb16-600_shapes-144x144',
    'vitpcm': 'vitpcm/vitpcm_vit-xt8_1xb16-600_shapes-144x144',
    'apc': 'apc/apc_vit-xt8_1xb16-600_shapes-144x144',
    'cosa': 'cosa/cosa_vit-xt8_1xb8-600_shapes-144x144',
    'cosa_released': 'cosa/cosa_deit-t16_1xb4-1300_voc12mini-224x224_released',
    'acr': 'acr/acr_vit-xt8_1xb16-600_shapes-144x144',
    'seam': 'pmm/seam_vit-xt8_1xb8-600_shapes-144x144',
    'pmm': 'pmm/fcn_vit-xt8_1xb16-600_shapes-pseudo_144x144_puf-cp',
    'pspnet': 'pmm/pspnet_resnet38d_8xb2-20k_voc12aug-pseudo_512x512',
    'affinity': 'pmm/affinity_vit-xt8_1xb16-744_shapes-144x144',
}
CROP = 64  # of the affinity network: 8 cells a side


@dataclass(frozen=True)
class Step:
    """A model in training mode and a batch as its loader yields it."""

    model: nn.Module
    batch: dict[str, Any]

    def losses(self, seed: int = 0) -> dict[str, Tensor]:
        """What ``loss`` returns, with all randomness from ``seed``."""
        torch.manual_seed(seed)
        data = self.model.data_preprocessor(copy.deepcopy(self.batch), True)
        return self.model(**data, mode='loss')

    def total(self, seed: int = 0) -> Tensor:
        """The sum that is differentiated."""
        return self.model.parse_losses(self.losses(seed))[0]


def make_step(method: str) -> Step:
    """A fresh :class:`Step` of a method in :data:`METHODS`, everything on that is ever on; the same at every call."""
    config, batch = _parts(method)
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(config)).train()
    model.iteration = 1  # as hooks say it in the second iteration
    return Step(model, batch)


@cache
def _parts(method: str) -> tuple[dict, dict[str, Any]]:
    path = CONFIGS / f'{METHODS[method]}.py'
    return _affinity_parts(path) if method == 'affinity' else _trained_parts(path)


def _trained_parts(path: Path) -> tuple[dict, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        data_root = write_data(Path(folder), load_config(path).train_dataloader.dataset.type)
        cfg = tiny_config(path, data_root, folder)
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        np.random.seed(0)
        torch.manual_seed(0)
        return cfg.model, pseudo_collate([dataset[i] for i in range(BATCH)])


def _affinity_parts(path: Path) -> tuple[dict, dict[str, Any]]:
    model = load_config(path).model
    blocks, width = len(model.in_index), ARCH['embed_dims']
    model.backbone.update(
        arch=dict(ARCH, num_layers=blocks), img_size=CROP, out_indices=list(range(blocks)), init_cfg=None
    )
    model.head.update(in_channels=[width] * blocks, tap_channels=[4] * blocks)
    cells = CROP // model.backbone.patch_size
    torch.manual_seed(0)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 3, (1, cells, cells)))) for _ in range(BATCH)]
    return model, dict(inputs=[torch.randint(0, 256, (3, CROP, CROP)) for _ in samples], data_samples=samples)
