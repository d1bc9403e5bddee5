"""A run that was interrupted and resumed ends exactly where the uninterrupted one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner
from resume_cases import CASES, HALF, LENGTH, assert_equal, cut, make_config, state_of, train
from tiny_configs import write_data

from mmwsss.apis import launch


@pytest.fixture(scope='module')
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'), 'ShapesDataset')


@pytest.mark.parametrize('case', CASES)
def test_resumed_equals_straight(data_root: Path, tmp_path: Path, case: str) -> None:
    straight = train(make_config(case, data_root, tmp_path / 'straight'))
    cut(tmp_path / 'straight', tmp_path / 'resumed')
    cfg = make_config(case, data_root, tmp_path / 'resumed')
    launch.set_resume(cfg, 'auto')
    assert cfg.load_from.endswith(f'iter_{HALF}.pth')
    resumed = train(cfg)
    assert_equal(resumed['checkpoint'], straight['checkpoint'])
    assert_equal(resumed['generators'], straight['generators'])

    middle, end = state_of(tmp_path / 'straight', HALF), straight['checkpoint']
    assert [name for name in end if name.startswith('/state_dict/') and not torch.equal(end[name], middle.get(name))]
    assert [name for name in end if name.startswith('/logged/train/loss')]
    check = _CHECKS.get(case)
    if check is not None:
        check(middle, end)


def _check_fresh_adam(middle: dict[str, torch.Tensor], end: dict[str, torch.Tensor]) -> None:
    assert {int(value) for name, value in end.items() if name.endswith('/step')} == {LENGTH - HALF}


def _check_gradients(middle: dict[str, torch.Tensor], end: dict[str, torch.Tensor]) -> None:
    assert any(value.any() for name, value in middle.items() if name.startswith('/gradients/'))
    assert not [name for name in end if name.startswith('/gradients/')]


def _check_average(middle: dict[str, torch.Tensor], end: dict[str, torch.Tensor]) -> None:
    assert int(end['/ema_state_dict/steps']) == LENGTH


def _check_queues(middle: dict[str, torch.Tensor], end: dict[str, torch.Tensor]) -> None:
    for name in ('threshold', 'aux_threshold'):
        assert [int(state[f'/state_dict/{name}.pointer']) for state in (middle, end)] == [8, 6]
        assert float(end[f'/state_dict/{name}.filled']) == 10
        assert not torch.equal(middle[f'/state_dict/{name}.queue'], end[f'/state_dict/{name}.queue'])


_CHECKS = dict(
    vitpcm_at_the_change=_check_fresh_adam, vitpcm_accumulated=_check_gradients, pmm=_check_average, cosa=_check_queues
)


def test_through_the_tool_with_workers_in_a_new_process(data_root: Path, repository: Path, tmp_path: Path) -> None:
    straight = train(make_config('vitpcm', data_root, tmp_path / 'straight'))
    cut(tmp_path / 'straight', tmp_path / 'resumed')
    config = tmp_path / 'tiny.py'
    cfg = make_config('vitpcm', data_root, tmp_path / 'resumed')
    cfg.train_dataloader.update(num_workers=2, persistent_workers=True)
    cfg.dump(config)
    command = [sys.executable, repository / 'tools' / 'train.py', config, '--resume']
    env = {**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert_equal(state_of(tmp_path / 'resumed', LENGTH), straight['checkpoint'])


@pytest.mark.skipif(not torch.cuda.is_available(), reason='float16 needs a GPU')
def test_loss_scale_is_resumed(data_root: Path, tmp_path: Path) -> None:
    ends = []
    for name in ('straight', 'resumed'):
        if name == 'resumed':
            cut(tmp_path / 'straight', tmp_path / 'resumed')
        cfg = make_config('vitpcm', data_root, tmp_path / name)
        cfg.optim_wrapper.update(type='AmpOptimWrapper', loss_scale=dict(init_scale=2.0**10, growth_interval=3))
        launch.set_resume(cfg, 'auto' if name == 'resumed' else None)
        runner = Runner.from_cfg(cfg)
        runner.train()
        ends.append(runner.optim_wrapper.loss_scaler.state_dict())
    assert ends[0] == ends[1]
    assert ends[0]['scale'] == 2.0**11
