"""Two processes with half of the batch each train CoSA like one with the whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from cosa_cases import SEARCHED, build_cosa, make_samples, make_views
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import init_default_scope
from torch import nn

from mmwsss.registry import OPTIM_WRAPPERS

LABELS = ((1, 0, 0), (0, 1, 1), (0, 0, 1), (1, 1, 1))
BATCH, STEPS = len(LABELS), 3
GATHERED = dict(SEARCHED, rows=10, gather=True)  # the buffer wraps in the third step
# The loss of pseudo masks averages over the background and the foreground pixels of one process, which is not the
# average over those of both; all others are means over images.
ENERGY = dict(type='DenseEnergyLoss', factor=0.5, loss_weight=0.05)  # large enough to train the segmentation alone
MEANS = dict(threshold=GATHERED, aux_threshold=GATHERED, warmup_iters=0, loss_c2s=None, loss_energy=ENERGY)
CASES = {
    'skip': dict(MEANS, warmup='skip'),
    'zero': dict(MEANS, warmup='zero'),
    'all': dict(
        threshold=GATHERED,
        aux_threshold=GATHERED,
        warmup_iters=0,
        aux_seg2cam=0.5,
        reliability=dict(type='ReliabilityWeights'),
        loss_csc=dict(type='SeparationLoss', epsilon=20.0),
    ),
}


def make_batch(step: int, first: int, last: int) -> dict[str, Any]:
    """Items ``first`` to ``last`` of the batch of one step, as a data loader brings them."""
    views = make_views(BATCH, seed=step)
    samples = make_samples(LABELS, num_present=[sum(row) for row in LABELS])
    inputs = {name: list(view[first:last] * 60 + 120) for name, view in views.items()}
    return dict(inputs=inputs, data_samples=samples[first:last])


def train(case: str, first: int, last: int, wrap=lambda model: model) -> dict[str, Any]:
    """Gradients of all steps and the state after them."""
    inner = build_cosa(**CASES[case])
    model: nn.Module = wrap(inner)
    optimizer = torch.optim.SGD([p for p in inner.parameters() if p.requires_grad], lr=0.05)
    optim = OPTIM_WRAPPERS.build(dict(type='OptimWrapper', optimizer=optimizer))
    gradients: dict[str, torch.Tensor] = {}
    optim.optimizer.register_step_pre_hook(  # after the processes have exchanged them
        lambda *args: gradients.update(
            {f'{inner.iteration}/{n}': p.grad.clone() for n, p in inner.named_parameters() if p.grad is not None}
        )
    )
    for step in range(STEPS):
        inner.iteration = step
        model.train_step(make_batch(step, first, last), optim)
        inner.update_assignment()
    return dict(gradients=gradients, state={name: value.clone() for name, value in inner.state_dict().items()})


def wrapped(model: nn.Module) -> nn.Module:
    """As the runner does it."""
    return MMDistributedDataParallel(model, broadcast_buffers=False)


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    init_default_scope('mmwsss')
    dist.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    half = BATCH // 2
    for case in CASES:
        # find_unused_parameters is off: a weight without a gradient would raise in the next step
        found = train(case, rank * half, (rank + 1) * half, wrapped)
        torch.save(found, f'{folder}/{case}_{rank}.pth')
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def ranks(tmp_path_factory) -> dict[str, list[dict]]:
    """Results of both processes by case."""
    folder = tmp_path_factory.mktemp('ranks')
    mp.spawn(_rank, args=(str(folder),), nprocs=2)
    load = lambda name: torch.load(Path(folder) / f'{name}.pth', weights_only=True)  # noqa: E731
    return {case: [load(f'{case}_{rank}') for rank in range(2)] for case in CASES}


@pytest.mark.parametrize('case', ['skip', 'zero'])
def test_two_processes_equal_one(ranks, case: str) -> None:
    whole = train(case, 0, BATCH)
    for found in ranks[case]:
        for kind in ('gradients', 'state'):
            assert found[kind].keys() == whole[kind].keys()
            for name, value in whole[kind].items():
                torch.testing.assert_close(found[kind][name], value, atol=2e-5, rtol=1e-3, msg=f'{kind} of {name}')
    # the halves alone lead elsewhere, so the agreement above comes from averaging and gathering
    half = train(case, 0, BATCH // 2)['state']
    for name in ('online.decode_head.conv6.weight', 'threshold.queue', 'threshold.pointer'):
        assert not torch.allclose(half[name].double(), whole['state'][name].double(), atol=1e-4), name
    warm_up, later = (whole['gradients'][f'{step}/online.decode_head.conv7.weight'] for step in (0, 1))
    assert not warm_up.any()
    assert later.any()


@pytest.mark.parametrize('case', CASES)
def test_both_processes_hold_the_same_state(ranks, case: str) -> None:
    first, second = (found['state'] for found in ranks[case])
    assert {'threshold.queue', 'aux_threshold.high', 'assignment.head.classifier.weight'} <= first.keys()
    assert not [name for name, value in first.items() if not torch.equal(value, second[name])]
    start = build_cosa(**CASES[case]).state_dict()
    trained = ('threshold.low', 'assignment.head.classifier.weight', 'online.aux_head.classifier.weight')
    for name in (*trained, 'online.decode_head.conv_seg.weight'):
        assert not torch.equal(first[name], start[name]), name
    assert int(first['threshold.pointer']) == STEPS * BATCH % GATHERED['rows']


def test_kinds_of_warm_up_agree(ranks) -> None:
    first, second = (ranks[case][0]['state'] for case in ('skip', 'zero'))
    assert not [name for name, value in first.items() if not torch.equal(value, second[name])]
