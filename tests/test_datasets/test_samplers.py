"""Positions, passes and ranks of the resumable sampler."""

from __future__ import annotations

from itertools import islice

import pytest

from mmwsss.datasets import samplers
from mmwsss.datasets.samplers import ResumableInfiniteSampler
from mmwsss.registry import DATA_SAMPLERS
from mmwsss.utils import SampleDraw

DATA = range(7)


def drawn(sampler: ResumableInfiniteSampler, count: int) -> list[tuple[int, tuple[int, ...]]]:
    return [(int(index), index.draw) for index in islice(sampler, count)]


def test_every_pass_is_another_permutation() -> None:
    order = [index for index, _ in drawn(ResumableInfiniteSampler(DATA, seed=3), 35)]
    passes = [order[i : i + 7] for i in range(0, 35, 7)]
    assert all(sorted(one) == list(DATA) for one in passes)
    assert len({tuple(one) for one in passes}) == 5


@pytest.mark.parametrize('start', [0, 1, 6, 7, 20])
@pytest.mark.parametrize('shuffle', [True, False])
def test_starting_at_a_position_equals_going_on(start: int, shuffle: bool) -> None:
    straight = drawn(ResumableInfiniteSampler(DATA, shuffle, seed=3), 30)
    resumed = ResumableInfiniteSampler(DATA, shuffle, seed=3)
    resumed.start_at(start)
    assert drawn(resumed, 30 - start) == straight[start:]


@pytest.mark.parametrize('world_size', [2, 3])
def test_ranks_share_each_pass(monkeypatch: pytest.MonkeyPatch, world_size: int) -> None:
    alone = drawn(ResumableInfiniteSampler(DATA, seed=5), 21 * world_size)
    parts = []
    for rank in range(world_size):
        monkeypatch.setattr(samplers, 'get_dist_info', lambda rank=rank: (rank, world_size))
        sampler = ResumableInfiniteSampler(DATA, seed=5)
        parts.append(drawn(sampler, 21))
        sampler.start_at(4)
        assert drawn(sampler, 17) == parts[-1][4:]
    together = [item for group in zip(*parts) for item in group]
    assert together == alone


def test_draw_names_seed_and_position() -> None:
    items = list(islice(ResumableInfiniteSampler(DATA, seed=5), 10))
    assert all(isinstance(item, SampleDraw) for item in items)
    assert [item.draw for item in items] == [(5, position) for position in range(10)]


def test_seed_decides_the_order() -> None:
    orders = [[i for i, _ in drawn(ResumableInfiniteSampler(DATA, seed=seed), 14)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_iterating_again_starts_again_and_length_is_one_pass() -> None:
    sampler = DATA_SAMPLERS.build(dict(type='ResumableInfiniteSampler', seed=0), default_args=dict(dataset=DATA))
    first = drawn(sampler, 9)
    sampler.set_epoch(4)
    assert drawn(sampler, 9) == first
    assert len(sampler) == 7
    assert [i for i, _ in drawn(ResumableInfiniteSampler(DATA, shuffle=False, seed=0), 9)] == [*range(7), 0, 1]
