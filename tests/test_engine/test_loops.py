"""Resuming: the second half of a run equals that of a run without a break."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mmwsss.engine import ResumableIterBasedTrainLoop


@pytest.mark.parametrize('num_workers', [0, 2])
def test_three_iterations_and_three_after_resuming_equal_six(
    make_runner, assert_same_state, tmp_path: Path, num_workers: int
) -> None:
    straight = make_runner(6, num_workers)
    straight.train()
    assert straight.iter == 6
    begun = make_runner(3, work_dir=str(tmp_path / 'begun'))
    begun.train()
    path = str(tmp_path / 'begun' / 'iter_3.pth')
    resumed = make_runner(6, num_workers, load_from=path, resume=True, work_dir=str(tmp_path / 'resumed'))
    resumed.train()
    assert_same_state(resumed, straight)
    assert len(resumed.model.seen) == 3, 'trained batches are not read again'
    assert all(torch.equal(a, b) for a, b in zip(begun.model.seen + resumed.model.seen, straight.model.seen))
    assert not torch.equal(begun.model.head.weight, straight.model.head.weight)


def test_a_resumed_run_takes_over_the_seed_of_its_checkpoint(make_runner, assert_same_state, tmp_path: Path) -> None:
    straight = make_runner(4)
    straight.train()
    path = str(tmp_path / 'work' / 'iter_2.pth')
    other = make_runner(4, load_from=path, resume=True, randomness=dict(seed=99), work_dir=str(tmp_path / 'other'))
    other.train()
    assert_same_state(other, straight)


def test_a_seed_of_the_sampler_itself_is_kept(make_runner, assert_same_state, tmp_path: Path) -> None:
    sampler = dict(type='ResumableInfiniteSampler', seed=5)
    straight = make_runner(4, sampler=sampler)
    straight.train()
    path = str(tmp_path / 'work' / 'iter_2.pth')
    resumed = make_runner(4, sampler=sampler, load_from=path, resume=True, work_dir=str(tmp_path / 'resumed'))
    resumed.train()
    assert_same_state(resumed, straight)


def test_other_samplers_are_refused(make_runner) -> None:
    runner = make_runner(2, sampler=dict(type='InfiniteSampler'))
    with pytest.raises(TypeError, match=r"sampler=dict\(type='ResumableInfiniteSampler'\), got InfiniteSampler"):
        runner.train()


def test_validation_times() -> None:
    def due(iteration: int, val_loop: object = 'some') -> bool:
        loop = SimpleNamespace(
            runner=SimpleNamespace(val_loop=val_loop), _iter=iteration, _max_iters=7, val_begin=3, val_interval=2
        )
        return ResumableIterBasedTrainLoop._is_validation_due(loop)

    assert [i for i in range(1, 8) if due(i)] == [4, 6, 7]
    assert not due(7, val_loop=None)
