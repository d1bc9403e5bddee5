"""Which training steps the benchmark compares, with which config and batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from references.acr import PlainACR
from references.apc import PlainAPC
from references.base import Reference
from references.cosa import PlainCoSA
from references.pmm import PlainAffinity, PlainSEAM
from references.vitpcm import PlainViTPCM
from torch import nn

CONFIGS = Path(__file__).parents[2] / 'configs'
METHODS = ('vitpcm', 'apc', 'cosa', 'acr', 'pmm')
GPU_CROP = 448


@dataclass(frozen=True)
class Place:
    """Config, batch size and side of the images in pixels."""

    config: str
    batch: int
    crop: int


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Args:
        name: of the row.
        method: one of :data:`METHODS`.
        reference: the same step written plainly.
        goal: how many times faster ours should be on a CPU; None for no goal.
        cpu, gpu: what is run in each setting.
        prepare: changes our model before its first step.
        exact: whether our losses are in float32, so that they have to agree.
    """

    name: str
    method: str
    reference: type[Reference]
    goal: float | None
    cpu: Place
    gpu: Place
    prepare: Callable[[nn.Module], None] | None = None
    exact: bool = True

    def place(self, setting: str) -> Place:
        """What is run in ``setting``, 'cpu' or 'gpu'."""
        return dict(cpu=self.cpu, gpu=self.gpu)[setting]


def _half_assignment(model: nn.Module) -> None:
    model.assignment_dtype = torch.bfloat16


def _warming_up(model: nn.Module) -> None:
    model.iteration = model.warmup_iters
    model.warmup = 'skip'


_COSA = dict(
    method='cosa',
    reference=PlainCoSA,
    cpu=Place('cosa/cosa_deit-t16_1xb4-1300_voc12mini-224x224_released.py', 4, 224),
    gpu=Place('cosa/cosa_vit-b16_2xb2-32k_voc12aug-448x448_released.py', 16, GPU_CROP),
)
CASES = (
    Case(
        'vitpcm_step', 'vitpcm', PlainViTPCM, 1.5,
        Place('vitpcm/vitpcm_deit-t16_1xb16-2k_voc12mini-224x224.py', 16, 224),
        Place('vitpcm/vitpcm_vit-b16_4xb16-13k_voc12aug-384x384.py', 16, GPU_CROP),
    ),
    Case(
        'apc_step', 'apc', PlainAPC, 1.3,
        Place('apc/apc_deit-t16_1xb16-2k_voc12mini-224x224.py', 16, 224),
        Place('apc/apc_vit-b16_1xb16-20k_voc12aug-384x384.py', 16, GPU_CROP),
    ),
    Case('cosa_step', goal=2.0, **_COSA),
    Case('cosa_step_bf16_assignment', goal=None, prepare=_half_assignment, exact=False, **_COSA),
    Case('cosa_warmup_step', goal=None, prepare=_warming_up, **_COSA),
    Case(
        'acr_step', 'acr', PlainACR, 1.3,
        Place('acr/acr_deit-t16_1xb8-1300_voc12mini-224x224.py', 8, 224),
        Place('acr/acr_vit-b16_4xb1-26k_voc12aug-384x384.py', 16, GPU_CROP),
    ),
    Case(
        'pmm_step', 'pmm', PlainSEAM, 1.3,
        Place('pmm/seam_deit-t16_1xb8-1300_voc12mini-224x224.py', 8, 224),
        Place('pmm/seam_resnet38d_8xb3-3520_voc12aug-448x448.py', 4, GPU_CROP),
    ),
    Case(
        'pmm_affinity_step', 'pmm', PlainAffinity, 1.3,
        Place('pmm/affinity_deit-t16_1xb16-448_voc12mini-224x224.py', 16, 224),
        Place('pmm/affinity_resnet38d_4xb4-5288_voc12aug-448x448.py', 4, GPU_CROP),
    ),
)  # fmt: skip
