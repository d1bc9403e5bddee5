"""The state of an optimizer, shared out among processes; that weights stay the same is tested for several methods in
test_equal_processes.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from equal_cases import configured, train
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from processes import start_ranks
from torch import nn

from mmwsss.engine import ShardedOptimizer

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason='forks and compares trainings on the CPU; CUDA_VISIBLE_DEVICES= hides the GPU'
)
ADAM = dict(type='Adam', lr=0.01, eps=1e-3)
CONSTRUCTOR = 'ShardedOptimWrapperConstructor'


def config(root: Path, name: str, sharded: bool) -> Config:
    """Two processes, the groups of a two-phase training, checkpoints after two of three iterations."""
    cfg = configured('vitpcm', root, name, processes=2, sharded=sharded)
    cfg.optim_wrapper.optimizer = dict(ADAM)
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=2)
    return cfg


def _train(rank: int, root: Path) -> dict[str, Any]:
    found = {name: train(config(root, name, sharded=name == 'sharded')) for name in ('plain', 'sharded')}
    for name, other in (('plain', 'sharded'), ('sharded', 'plain')):
        cfg = config(root, f'{name}_resumed', sharded=name == 'sharded')
        cfg.update(resume=True, load_from=str(root / other / 'iter_2.pth'))
        found[f'{name} from {other}'] = train(cfg)
    return found


def test_checkpoints_are_those_of_the_optimizer_alone(tmp_path: Path) -> None:
    configured('vitpcm', tmp_path, 'data')
    (tmp_path / 'ranks').mkdir()
    ranks = start_ranks(_train, 2, tmp_path / 'ranks', tmp_path)
    plain, sharded = (torch.load(tmp_path / name / 'iter_2.pth')['optimizer'] for name in ('plain', 'sharded'))
    assert plain['state'].keys() == sharded['state'].keys()
    assert len(plain['param_groups']) == len(sharded['param_groups']) == 2
    for index, state in plain['state'].items():
        assert all(torch.equal(value, sharded['state'][index][name]) for name, value in state.items())
    expected = ranks[0]['plain']['state']
    assert ranks[0]['plain']['moved'] > 1e-3
    for rank in ranks:
        for run in ('sharded', 'plain from sharded', 'sharded from plain'):
            assert not [name for name, value in expected.items() if not torch.equal(value, rank[run]['state'][name])]


def _share(rank: int) -> dict[str, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(6)))
    optimizer = build_optim_wrapper(model, dict(constructor=CONSTRUCTOR, optimizer=dict(ADAM))).optimizer
    assert isinstance(optimizer, ShardedOptimizer)
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    owned = [name for name, weight in model.named_parameters() if weight in optimizer.state]
    with pytest.raises(RuntimeError, match=r'only after gather_state\(\), which all have to call'):
        optimizer.state_dict()
    (group,) = optimizer.param_groups
    first, *others = group['params']
    optimizer.param_groups[:] = [{**group, 'params': [first]}, {**group, 'params': others}]
    with pytest.raises(RuntimeError, match='cannot be replaced after the first step'):
        optimizer.step()
    return dict(owned=owned, names=[name for name, _ in model.named_parameters()])


def test_each_process_keeps_a_part(tmp_path: Path) -> None:
    first, second = start_ranks(_share, 2, tmp_path)
    assert sorted(first['owned'] + second['owned']) == sorted(first['names'])
    assert len(first['owned']) == len(second['owned'])


def test_one_process_gets_the_optimizer_alone() -> None:
    wrapper = build_optim_wrapper(nn.Linear(2, 2), dict(constructor=CONSTRUCTOR, optimizer=dict(ADAM)))
    assert type(wrapper.optimizer) is torch.optim.Adam
    with pytest.raises(ValueError, match=r'takes optimizers of torch\.optim by their name, got Lion'):
        build_optim_wrapper(nn.Linear(2, 2), dict(constructor=CONSTRUCTOR, optimizer=dict(type='Lion', lr=0.1)))
