"""A training step of every method in bfloat16 and float16."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from method_steps import METHODS, make_step
from torch import Tensor

from mmwsss.engine import BFloat16OptimWrapper

CLOSE = dict(rtol=2e-2, atol=2e-3)
# These depend on which pixels a class or threshold wins, and a network that has learnt nothing has many ties.
BY_DECISIONS = {name: dict(rtol=0.25, atol=2e-3) for name in ('loss_csc', 'loss_min', 'loss_er', 'loss_ecr')}


@cache
def single_precision(method: str) -> dict[str, Tensor]:
    with torch.no_grad():
        return make_step(method).losses()


def assert_close_to_single(method: str, losses: dict[str, Tensor]) -> None:
    expected = single_precision(method)
    assert losses.keys() == expected.keys()
    for name in (name for name in losses if 'loss' in name):
        assert losses[name].dtype == torch.float32, name
        assert losses[name].isfinite(), name
        torch.testing.assert_close(losses[name].detach(), expected[name], **BY_DECISIONS.get(name, CLOSE))


@pytest.mark.parametrize('method', METHODS)
def test_bfloat16(method: str) -> None:
    step = make_step(method)
    wrapper = BFloat16OptimWrapper(torch.optim.SGD(step.model.parameters(), lr=0.1))
    with wrapper.optim_context(step.model):
        losses = step.losses()
        total = step.model.parse_losses(losses)[0]
    assert_close_to_single(method, losses)
    total.backward()
    gradients = [p.grad for p in step.model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize('method', METHODS)
def test_float16(method: str) -> None:
    step = make_step(method)
    if any(isinstance(module, torch.nn.LSTM) for module in step.model.modules()):
        pytest.skip('the LSTM of a CPU does not take float16')
    with torch.autocast('cpu', torch.float16):
        assert_close_to_single(method, step.losses())
