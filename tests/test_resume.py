"""A run that was interrupted and resumed ends exactly where the uninterrupted one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from tiny_configs import CONFIGS, tiny_config, write_data


@pytest.fixture(scope='module')
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'), 'ShapesDataset')


@pytest.fixture
def make_config(data_root: Path, tmp_path: Path):
    """ViT-PCM on shapes with dropout everywhere, colour jitter, crops, and a phase change at ``change``."""

    def make(name: str, change: int, num_workers: int = 0) -> Config:
        cfg = tiny_config(CONFIGS / 'vitpcm_shapes.py', data_root, tmp_path / name, num_workers=num_workers)
        cfg.model.backbone.drop_rate = 0.3
        cfg.model.neck.dropout = cfg.model.head.dropout = 0.3
        cfg.model.teacher = 'eval'
        (views,) = [step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'TwoViews']
        assert views.color
        views.crop_prob = 0.5
        cfg.custom_hooks = [dict(type='TwoPhaseTrainHook', warmup_iters=change, warmup_lr=1e-2, lr=1e-3)]
        cfg.default_hooks.checkpoint.update(interval=3, max_keep_ckpts=-1)
        cfg.train_cfg.update(max_iters=6, val_interval=3)
        return cfg

    return make


def tensors(value: object, path: str = '') -> dict[str, torch.Tensor]:
    """Every tensor and number of a nested checkpoint by its path."""
    if isinstance(value, dict):
        return {k: v for key, child in value.items() for k, v in tensors(child, f'{path}/{key}').items()}
    if isinstance(value, list | tuple):
        return {k: v for key, child in enumerate(value) for k, v in tensors(child, f'{path}/{key}').items()}
    return {path: value if isinstance(value, torch.Tensor) else torch.tensor(float(value or 0))}


def state_of(folder: Path, iteration: int) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(folder / f'iter_{iteration}.pth', weights_only=True)
    assert checkpoint['meta']['iter'] == iteration
    return tensors({key: checkpoint[key] for key in ('state_dict', 'optimizer')})


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert not [name for name, value in first.items() if not torch.equal(value, second[name])]


@pytest.mark.parametrize('change', [2, 3, 4])
def test_resumed_equals_straight(make_config, tmp_path: Path, change: int) -> None:
    Runner.from_cfg(make_config('straight', change)).train()
    begun = make_config('begun', change)
    begun.train_cfg.max_iters = 3
    Runner.from_cfg(begun).train()
    resumed = make_config('resumed', change)
    resumed.update(resume=True, load_from=str(tmp_path / 'begun' / 'iter_3.pth'))
    Runner.from_cfg(resumed).train()

    middle, end = state_of(tmp_path / 'straight', 3), state_of(tmp_path / 'straight', 6)
    assert_equal(state_of(tmp_path / 'begun', 3), middle)
    assert_equal(state_of(tmp_path / 'resumed', 6), end)
    weights = [name for name in end if name.startswith('/state_dict/') and 'bias_hh' not in name]
    moved = [name for name in weights if not torch.equal(end[name], middle[name])]
    assert any('backbone' in name for name in moved)
    assert any('neck' in name for name in moved)
    assert {int(v) for name, v in end.items() if name.endswith('/step')} == {6 - change}, 'a fresh Adam at the change'


def test_through_the_tool_with_workers_in_a_new_process(make_config, repository: Path, tmp_path: Path) -> None:
    Runner.from_cfg(make_config('straight', 4)).train()
    (tmp_path / 'resumed').mkdir()
    checkpoint = (tmp_path / 'straight' / 'iter_3.pth').rename(tmp_path / 'resumed' / 'iter_3.pth')
    (tmp_path / 'resumed' / 'last_checkpoint').write_text(str(checkpoint))
    config = tmp_path / 'tiny.py'
    make_config('resumed', 4, num_workers=2).dump(config)
    command = [sys.executable, repository / 'tools' / 'train.py', config, '--resume']
    env = {**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert_equal(state_of(tmp_path / 'resumed', 6), state_of(tmp_path / 'straight', 6))
