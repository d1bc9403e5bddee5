"""bfloat16 training on a CPU."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from mmwsss.registry import OPTIM_WRAPPERS


def build(model: nn.Module, **settings):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return OPTIM_WRAPPERS.build(dict(type='BFloat16OptimWrapper', optimizer=optimizer, **settings))


def test_forward_is_cast_and_weights_stay_float32() -> None:
    model = nn.Linear(4, 2)
    wrapper = build(model)
    before = model.weight.detach().clone()
    x = torch.randn(3, 4)
    with wrapper.optim_context(model):
        out = model(x)
        assert out.dtype == torch.bfloat16
    assert model(x).dtype == torch.float32
    wrapper.update_params(out.float().square().mean())
    assert model.weight.dtype == torch.float32
    assert not torch.equal(model.weight, before)


def test_autocast_ends_after_an_error() -> None:
    model = nn.Linear(4, 2)
    try:
        with build(model).optim_context(model):
            raise KeyError
    except KeyError:
        pass
    assert not torch.is_autocast_enabled('cpu')


def test_gradients_accumulate() -> None:
    model = nn.Linear(4, 2)
    wrapper = build(model, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 4)
    weights = [model.weight.detach().clone()]
    for _ in range(4):
        with wrapper.optim_context(model):
            loss = model(torch.ones(1, 4)).float().square().mean()
        wrapper.update_params(loss)
        weights.append(model.weight.detach().clone())
    assert [torch.equal(a, b) for a, b in pairwise(weights)] == [True, False, True, False]


def test_a_network_trains_in_a_runner(make_runner) -> None:
    runner = make_runner(3, optim_wrapper=dict(type='BFloat16OptimWrapper', optimizer=dict(type='Adam', lr=0.05)))
    before = runner.model.head.weight.detach().clone()
    runner.train()
    assert runner.model.head.weight.dtype == torch.float32
    assert not torch.equal(runner.model.head.weight, before)
