"""Tiny trainings of every method with everything on that keeps a state, and what is compared of them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cosa_cases import SEARCHED, runner_config
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pmm_cases import AFFINITY_TRAINED, CYCLIC_TRAINED, labels_step, write_exports
from tiny_configs import ARCH, CONFIGS, load_config, tiny_config

from mmwsss.apis import launch

HALF, LENGTH = 2, 4
SHAPES = '_vit-xt8_1xb{}-600_shapes-144x144{}.py'
_CLOCKS = ('time', 'memory')  # parts of names of what no two runs have in common


def _vitpcm(data: Path, folder: Path, change: int = 3) -> Config:
    """Dropout everywhere, colours, crops and a change of phase; the run's generators decide on each."""
    cfg = tiny_config(CONFIGS / 'vitpcm_shapes.py', data, folder)
    cfg.model.backbone.drop_rate = 0.3
    cfg.model.neck.dropout = cfg.model.head.dropout = 0.3
    cfg.model.teacher = 'eval'
    (views,) = [step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'TwoViews']
    assert views.color
    views.crop_prob = 0.5
    cfg.custom_hooks = [dict(type='TwoPhaseTrainHook', warmup_iters=change, warmup_lr=1e-2, lr=1e-3)]
    return cfg


def _with_workers(data: Path, folder: Path) -> Config:
    cfg = _vitpcm(data, folder)
    cfg.train_dataloader.update(num_workers=1, persistent_workers=True)
    return cfg


def _accumulated(data: Path, folder: Path) -> Config:
    cfg = _vitpcm(data, folder)
    cfg.optim_wrapper.accumulative_counts = 3  # the run is cut within a step
    return cfg


def _bfloat16(data: Path, folder: Path) -> Config:
    cfg = _vitpcm(data, folder)
    launch.enable_amp(cfg)
    return cfg


def _cosa(data: Path, folder: Path) -> Config:
    """Searched thresholds, whose queues wrap in the third iteration, and reliability weights."""
    settings = dict(
        threshold=dict(SEARCHED, rows=10),
        aux_threshold=dict(SEARCHED, rows=10, high=0.6, low=0.3, start='empty', between_means=True),
        reliability=dict(type='ReliabilityWeights'),
        loss_csc=dict(type='SeparationLoss', epsilon=20.0),
        assignment_eval=False,
        warmup_iters=1,
    )
    cfg = runner_config(data, folder, **settings)
    cfg.model.backbone.drop_rate = 0.2
    return cfg


def _affinity(data: Path, folder: Path) -> Config:
    cfg = load_config(AFFINITY_TRAINED[0])
    width, crop = ARCH['embed_dims'], 48
    blocks = len(cfg.model.in_index)
    cfg.model.backbone.update(
        arch=dict(ARCH, num_layers=blocks), img_size=crop, out_indices=list(range(blocks)), init_cfg=None
    )
    cfg.model.head.update(in_channels=[width] * blocks, tap_channels=[4] * blocks)
    labels_step(cfg).crop_size = crop
    cfg.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.data_root = str(data)
    write_exports(cfg, folder.parent / 'exports')
    cfg.update(work_dir=str(folder), experiment_name=f'affinity_{folder.name}', log_level='ERROR')
    cfg.visualizer.name = cfg.experiment_name
    return cfg


def _pmm(data: Path, folder: Path) -> Config:
    """Proportional masks that are renewed twice by the running average of the network."""
    cfg = tiny_config(CYCLIC_TRAINED, data, folder)
    two_phase, cyclic = cfg.custom_hooks[0], cfg.custom_hooks[-1]
    two_phase.update(warmup_iters=1, warmup_lr=0.05, lr=0.05)
    cyclic.update(at=[1, 3])
    cfg.custom_hooks = [two_phase, dict(type='EMAHook', momentum=0.3, update_buffers=True), cyclic]
    return cfg


def _shipped(path: str, **changes: Any) -> Callable[[Path, Path], Config]:
    def make(data: Path, folder: Path) -> Config:
        cfg = tiny_config(CONFIGS / path, data, folder)
        cfg.merge_from_dict(changes)
        return cfg

    return make


CASES: dict[str, Callable[[Path, Path], Config]] = {
    'cam': _shipped('cam/cam' + SHAPES.format(16, '')),
    'vitpcm': _vitpcm,
    'vitpcm_at_the_change': lambda data, folder: _vitpcm(data, folder, change=HALF),
    'vitpcm_workers': _with_workers,
    'vitpcm_accumulated': _accumulated,
    'vitpcm_bfloat16': _bfloat16,
    'apc': _shipped('apc/apc' + SHAPES.format(16, '')),
    'cosa': _cosa,
    'acr': _shipped('acr/acr' + SHAPES.format(16, '')),
    'seam': _shipped('pmm/seam' + SHAPES.format(8, '')),
    'affinity': _affinity,
    'pmm': _pmm,
}


def make_config(case: str, data: Path, folder: Path) -> Config:
    """Four iterations in ``folder``, a checkpoint after every second one."""
    init_default_scope('mmwsss')
    cfg = CASES[case](data, folder)
    cfg.default_hooks.checkpoint.update(interval=HALF, max_keep_ckpts=-1)
    cfg.train_cfg.max_iters = LENGTH
    cfg.train_cfg.val_begin = 100
    return cfg


def train(cfg: Config) -> dict[str, Any]:
    """State at the end: what the checkpoint holds, and the random generators."""
    launch.train(cfg)
    generators = dict(
        python=hash(random.getstate()), numpy=np.random.get_state()[1].tolist(), torch=torch.get_rng_state()
    )
    return dict(checkpoint=state_of(Path(cfg.work_dir), LENGTH), generators=tensors(generators))


def cut(straight: Path, folder: Path) -> None:
    """Leave in ``folder`` what ``straight`` was when a signal ended it after half of its iterations."""
    shutil.copytree(straight, folder)
    (folder / f'iter_{LENGTH}.pth').unlink()
    (folder / 'last_checkpoint').write_text(str(folder / f'iter_{HALF}.pth'))
    shutil.rmtree(folder / 'cyclic_masks' / 'round-0002', ignore_errors=True)


def tensors(value: object, path: str = '') -> dict[str, torch.Tensor]:
    """Every tensor and number of a nested checkpoint by its path."""
    if isinstance(value, dict):
        return {k: v for key, child in value.items() for k, v in tensors(child, f'{path}/{key}').items()}
    if isinstance(value, list | tuple):
        return {k: v for key, child in enumerate(value) for k, v in tensors(child, f'{path}/{key}').items()}
    if hasattr(value, 'data') and isinstance(getattr(value, '_log_history', None), np.ndarray):
        return {path: torch.from_numpy(value._log_history)}
    if isinstance(value, str):
        return {}
    return {path: value if isinstance(value, torch.Tensor) else torch.tensor(float(value or 0))}


def state_of(folder: Path, iteration: int) -> dict[str, torch.Tensor]:
    """Weights, averages, optimizer, schedulers, gradients and logged numbers of a checkpoint."""
    checkpoint = torch.load(folder / f'iter_{iteration}.pth', weights_only=True)
    assert checkpoint['meta']['iter'] == iteration
    hub = checkpoint.pop('message_hub')
    checkpoint['logged'] = {
        name: history for name, history in hub['log_scalars'].items() if not any(clock in name for clock in _CLOCKS)
    }
    del checkpoint['meta']
    return tensors(checkpoint)


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """Raise AssertionError unless all are the same to the last bit."""
    assert first.keys() == second.keys()
    assert not [name for name, value in first.items() if not torch.equal(value, second[name])]
