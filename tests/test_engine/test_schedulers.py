"""Warm-up and polynomial decay in one closed form."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mmwsss.engine import WarmupPolyLR, warmup_poly
from mmwsss.registry import PARAM_SCHEDULERS

SHORT = dict(max_iters=20, warmup_iters=6, warmup_ratio=0.01, power=0.9)


def optimizer_of(*rates: float) -> torch.optim.Optimizer:
    groups = [dict(params=[nn.Parameter(torch.ones(2))], lr=rate) for rate in rates]
    return torch.optim.AdamW(groups)


def run(optimizer: torch.optim.Optimizer, scheduler: WarmupPolyLR, steps: int) -> list[list[float]]:
    """Rates in force during ``steps`` iterations."""
    rates = []
    for _ in range(steps):
        rates.append([group['lr'] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return rates


def test_factors() -> None:
    assert warmup_poly(0, **SHORT) == pytest.approx(0.01)
    assert warmup_poly(3, **SHORT) == pytest.approx(0.505)
    assert warmup_poly(5, **SHORT) == pytest.approx(1 - 0.99 / 6)
    assert warmup_poly(6, **SHORT) == pytest.approx(0.7**0.9)
    assert warmup_poly(19, **SHORT) == pytest.approx(0.05**0.9)
    assert warmup_poly(500, **SHORT) == warmup_poly(19, **SHORT)
    assert warmup_poly(0, max_iters=5, warmup_iters=0) == 1


def test_smallest_factor_holds_after_the_warm_up_only() -> None:
    assert warmup_poly(0, **SHORT, min_mult=0.3) == pytest.approx(0.01)
    assert warmup_poly(18, **SHORT, min_mult=0.3) == 0.3
    assert warmup_poly(8, **SHORT, min_mult=0.3) == pytest.approx(0.6**0.9)


def test_every_group_follows_its_own_rate() -> None:
    optimizer = optimizer_of(1e-3, 1e-2)
    scheduler = PARAM_SCHEDULERS.build(dict(type='WarmupPolyLR', optimizer=optimizer, by_epoch=False, **SHORT))
    for step, (first, second) in enumerate(run(optimizer, scheduler, 25)):
        assert first == pytest.approx(1e-3 * warmup_poly(step, **SHORT), rel=1e-12)
        assert second == pytest.approx(1e-2 * warmup_poly(step, **SHORT), rel=1e-12)


@pytest.mark.parametrize('stop', [1, 5, 6, 11])
def test_a_resumed_schedule_is_the_unbroken_one(stop: int) -> None:
    optimizer = optimizer_of(1e-3, 1e-2)
    unbroken = run(optimizer, WarmupPolyLR(optimizer, **SHORT), 2 * stop)

    optimizer = optimizer_of(1e-3, 1e-2)
    scheduler = WarmupPolyLR(optimizer, **SHORT)
    rates = run(optimizer, scheduler, stop)
    states = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))

    optimizer = optimizer_of(1e-3, 1e-2)
    scheduler = WarmupPolyLR(optimizer, **SHORT)
    optimizer.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    assert rates + run(optimizer, scheduler, stop) == unbroken


def test_in_a_runner_and_resumed(make_runner) -> None:
    settings = dict(
        param_scheduler=dict(type='WarmupPolyLR', **SHORT),
        default_hooks=dict(
            logger=None,
            timer=None,
            param_scheduler=dict(type='ParamSchedulerHook'),
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=4),
            iteration_seed=dict(type='IterationSeedHook'),
        ),
    )
    runner = make_runner(4, **settings)
    runner.train()
    (rate,) = runner.optim_wrapper.get_lr()['lr']
    assert rate == pytest.approx(0.05 * warmup_poly(4, **SHORT), rel=1e-12)
    resumed = make_runner(8, resume=True, **settings)
    resumed.train()
    (rate,) = resumed.optim_wrapper.get_lr()['lr']
    assert rate == pytest.approx(0.05 * warmup_poly(8, **SHORT), rel=1e-12)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(by_epoch=True), 'by_epoch=False'),
        (dict(max_iters=0), 'max_iters=0 has to be >= 1'),
        (dict(warmup_iters=-1), 'warmup_iters=-1'),
    ],
)
def test_bad_settings(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WarmupPolyLR(optimizer_of(0.1), **{**SHORT, **settings})
