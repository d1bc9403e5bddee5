"""The cases of the benchmark of training steps with networks small enough for a test."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[2] / 'tools' / 'benchmarks'
WIDTH = 16
ARCH = dict(_delete_=True, embed_dims=WIDTH, num_layers=3, num_heads=2, feedforward_channels=32)
HEAD = dict(in_channels=WIDTH)
DECODER = dict(in_channels=WIDTH, channels=8)
PATCHES = dict(
    backbone=dict(arch=ARCH, num_trainable_blocks=1), neck=dict(in_channels=WIDTH, hidden=4), head=dict(in_channels=16)
)
MODELS = dict(
    vitpcm_step=PATCHES,
    apc_step=PATCHES | dict(decode_head=DECODER),
    cosa=dict(backbone=dict(arch=ARCH, out_indices=[1, 2]), head=HEAD, aux_head=HEAD, decode_head=DECODER),
    acr_step=dict(backbone=dict(arch=ARCH), head=HEAD),
    pmm_step=dict(backbone=dict(arch=ARCH, out_indices=(1, 2)), head=HEAD),
    pmm_affinity_step=dict(
        backbone=dict(arch=ARCH, out_indices=(0, 1, 2)), head=dict(in_channels=(WIDTH,) * 3, tap_channels=(4, 4, 4))
    ),
)
BATCH, CROP = 4, 96


def load(name: str) -> ModuleType:
    """A module of the benchmarks, whose folder has to be on the path."""
    return importlib.import_module(name)


def tiny_case(name: str, folder: Path, **settings):
    """Case ``name`` with a tiny network and further settings of the model; its config is written into ``folder``."""
    cases = load('step_cases')
    case = next(case for case in cases.CASES if case.name == name)
    model = MODELS['cosa' if name.startswith('cosa') else name] | settings
    path = folder / f'{name}.py'
    path.write_text(f'_base_ = {str(cases.CONFIGS / case.cpu.config)!r}\nmodel = {model!r}\n')
    return replace(case, cpu=cases.Place(str(path), BATCH, CROP))
