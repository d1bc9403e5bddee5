"""Tiny trainings whose masks are renewed, and what is compared of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image
from pmm_cases import CYCLIC_TRAINED
from tiny_configs import tiny_config

from mmwsss.apis import launch
from mmwsss.registry import HOOKS

LENGTH, IMAGES = 6, 8
WORKERS = dict(num_workers=0, workers=0)


@HOOKS.register_module()
class MasksSeenHook(Hook):
    """Remembers the masks (H, W) of every batch by the name of their image."""

    priority = 'HIGHEST'

    def __init__(self) -> None:
        self.seen: dict[int, dict[str, np.ndarray]] = {}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.seen[runner.iter] = {
            Path(sample.img_path).stem: sample.gt_sem_seg.data[0].numpy() for sample in data_batch['data_samples']
        }


def configured(
    data_root: Path, folder: Path, name: str, at: tuple[int, ...] = (3,), num_workers: int = 0, **hook: Any
) -> Config:
    """A tiny training of six iterations in ``folder / name`` that renews its masks after those in ``at``."""
    cfg = tiny_config(CYCLIC_TRAINED, data_root, folder / name)
    cfg.train_dataloader.update(num_workers=num_workers, persistent_workers=num_workers > 0)
    two_phase, cyclic = cfg.custom_hooks[0], cfg.custom_hooks[-1]
    assert (two_phase.type, cyclic.type) == ('TwoPhaseTrainHook', 'CyclicPseudoMaskHook')
    two_phase.update(warmup_iters=1, warmup_lr=0.05, lr=0.05)
    cyclic.update(at=list(at) or None, **WORKERS, **hook)
    cfg.custom_hooks = [two_phase, cyclic, dict(type='MasksSeenHook')]
    cfg.train_dataloader.batch_size = 4
    cfg.default_hooks.checkpoint.update(interval=4, max_keep_ckpts=-1)
    cfg.train_cfg.update(max_iters=LENGTH, val_begin=100)
    return cfg


def train(cfg: Config, resume: bool = False) -> Runner:
    """Train to the end; the runner has the hooks."""
    init_default_scope('mmwsss')
    if resume:
        launch.set_resume(cfg, 'auto')
        assert cfg.resume
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def hook_of(runner: Runner, kind: type) -> Any:
    return next(hook for hook in runner.hooks if isinstance(hook, kind))


def read(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.asarray(Image.open(path)) for path in folder.glob('*.png')}


def round_of(name: str, tmp_path: Path, number: int = 1) -> Path:
    return tmp_path / name / 'cyclic_masks' / f'round-{number:04d}'


def assert_same_weights(first: Runner, second: Runner) -> None:
    expected = second.model.state_dict()
    assert not [name for name, value in first.model.state_dict().items() if not torch.equal(value, expected[name])]


def assert_same_masks(first: Path, second: Path) -> None:
    found, expected = read(first / 'masks'), read(second / 'masks')
    assert found.keys() == expected.keys()
    assert len(found) == IMAGES
    assert all(np.array_equal(found[name], expected[name]) for name in found)
