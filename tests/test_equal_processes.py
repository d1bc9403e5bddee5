"""Every method trains the same weights in one process, in several, and with accumulated gradients.

Three steps of eight images each, through the runner as ``tools/train.py`` builds it. Losses that divide by what they
find in a batch (``PER_PROCESS``) do so in each process, as the official codes do; then one process has to average over
the same parts of the batch to be equal.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from equal_cases import PATHS, PER_PROCESS, STEPS, configured, train
from processes import start_ranks

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason='forks and compares trainings on the CPU; CUDA_VISIBLE_DEVICES= hides the GPU'
)
# Of losses, and of weights after three steps, which move by 1e-3 and more; what differs is the order of float32 sums.
LOSS, WEIGHT = dict(atol=1e-5, rtol=1e-5), dict(atol=2e-6, rtol=1e-5)
STATELESS = tuple(case for case in PATHS if case != 'cosa')  # losses read nothing that earlier iterations left
GATHERED = ('threshold', 'aux_threshold')
OWN = {name: dict(gather=False) for name in GATHERED}
VARIANTS = {
    'cosa zero': dict(case='cosa', settings=dict(processes=2, warmup='zero')),
    'cosa own': dict(case='cosa', settings=dict(processes=2, **OWN)),
    'accumulated': dict(case='cosa_released', settings=dict(processes=2, accumulate=2)),
}
SHARDED = ('acr', 'vitpcm', 'cosa')  # groups of parameters; groups that a hook makes; parts that are frozen
Run = dict[str, Any]


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('equal')
    for case in ('cam', 'cosa_released', 'affinity'):  # all data, before several processes would write them
        configured(case, folder, 'data')
    gc.collect()
    gc.freeze()  # mmengine collects garbage whenever it builds a data set, by now among all that trainings import
    return folder


def _train(rank: int, root: Path, runs: dict[str, Run]) -> dict[str, Run]:
    return {name: train(configured(run['case'], root, name, **run['settings'])) for name, run in runs.items()}


@pytest.fixture(scope='module')
def pair(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Run]]:
    """Results of both of two processes by the name of the run."""
    runs = {case: dict(case=case, settings=dict(processes=2)) for case in PATHS} | VARIANTS
    runs |= {f'{case} sharded': dict(case=case, settings=dict(processes=2, sharded=True)) for case in SHARDED}
    return start_ranks(_train, 2, tmp_path_factory.mktemp('two'), root, runs)


@pytest.fixture(scope='module')
def alone(root: Path) -> Callable[..., Run]:
    """Train a case in one process; no training is done twice."""

    @cache
    def run(case: str, **settings: Any) -> Run:
        return train(configured(case, root, 'alone', **settings))

    return run


def steps_of(*runs: Run) -> list[dict[str, float]]:
    """Losses of each step, averaged over processes and over the iterations of the step."""
    rows = [run['losses'] for run in runs]
    length = len(rows[0]) // STEPS
    steps = [[row for rank in rows for row in rank[i * length : (i + 1) * length]] for i in range(STEPS)]
    return [{name: mean(row[name] for row in step) for name in step[0]} for step in steps]


def assert_same(found: Sequence[Run], expected: Run) -> None:
    """Losses of all steps and weights after them; buffers with the weights."""
    assert expected['moved'] > 1e-3
    for step, (own, other) in enumerate(zip(steps_of(*found), steps_of(expected), strict=True)):
        assert own == {
            name: pytest.approx(value, abs=LOSS['atol'], rel=LOSS['rtol']) for name, value in other.items()
        }, step
    assert found[0]['state'].keys() == expected['state'].keys()
    for name, value in expected['state'].items():
        torch.testing.assert_close(found[0]['state'][name], value, **WEIGHT, msg=name)


def differing(first: Run, second: Run) -> list[str]:
    return [name for name, value in first['state'].items() if not torch.equal(value, second['state'][name])]


@pytest.mark.parametrize('case', PATHS)
def test_two_processes_equal_one(pair, alone, case: str) -> None:
    assert_same([rank[case] for rank in pair], alone(case))


@pytest.mark.parametrize('case', PATHS)
def test_processes_hold_the_same_state(pair, case: str) -> None:
    first, second = (rank[case] for rank in pair)
    assert differing(first, second) == []
    assert first['losses'] != second['losses'], 'of different images'
    if case == 'cosa':
        assert {'assignment.head.classifier.weight', 'threshold.queue', 'aux_threshold.high'} <= first['state'].keys()


@pytest.mark.parametrize('case', STATELESS)
def test_accumulation_equals_two_processes(pair, alone, case: str) -> None:
    assert_same([rank[case] for rank in pair], alone(case, accumulate=2))


@pytest.mark.parametrize('case', PER_PROCESS)
def test_a_mean_over_processes_is_not_one_over_the_batch(pair, alone, case: str) -> None:
    with pytest.raises(AssertionError):
        assert_same([rank[case] for rank in pair], alone(case, per_process=False))


def test_two_processes_that_accumulate(pair, alone) -> None:
    assert_same([rank['accumulated'] for rank in pair], alone('cosa_released', accumulate=4))


def test_searched_thresholds_move_in_every_iteration(alone) -> None:
    at_once, in_parts = (alone('cosa', accumulate=count)['state'] for count in (1, 2))
    for name in GATHERED:
        assert at_once[f'{name}.pointer'] == in_parts[f'{name}.pointer'], 'the same images'
        assert abs(in_parts[f'{name}.high'] - 0.7) > 1.5 * abs(at_once[f'{name}.high'] - 0.7), 'twice as many searches'


def test_thresholds_of_a_process_are_its_own_by_choice(pair) -> None:
    first, second = (rank['cosa own'] for rank in pair)
    names = differing(first, second)
    assert {f'{name}.queue' for name in GATHERED} <= set(names)
    assert {name.split('.')[0] for name in names} == set(GATHERED), 'the weights are the same'


def test_both_kinds_of_warm_up_agree(pair) -> None:
    assert differing(pair[0]['cosa zero'], pair[0]['cosa']) == []


@pytest.mark.parametrize('case', SHARDED)
def test_a_sharded_optimizer_makes_the_same_weights(pair, case: str) -> None:
    for rank in pair:
        assert differing(rank[f'{case} sharded'], rank[case]) == []
        assert rank[f'{case} sharded']['losses'] == rank[case]['losses']


def test_four_processes_equal_one(root, alone, tmp_path: Path) -> None:
    runs = {
        name: dict(case='cam', settings=dict(processes=4, accumulate=accumulate))
        for name, accumulate in (('four', 1), ('four accumulated', 2))
    }
    ranks = start_ranks(_train, 4, tmp_path, root, runs)
    for name in runs:
        assert_same([rank[name] for rank in ranks], alone('cam'))
        assert [differing(ranks[0][name], rank[name]) for rank in ranks[1:]] == [[]] * 3
