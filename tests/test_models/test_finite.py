"""Losses, poolings and heads give finite numbers and finite gradients, whatever comes in."""

from __future__ import annotations

import pytest
import torch
from finite_cases import CALLS, LABELS, MASKS, NAMED, VALUES, Inputs, Setting, registered
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ANY = st.builds(
    Setting,
    batch=st.integers(1, 3),
    classes=st.integers(2, 4),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    values=st.sampled_from(VALUES),
    labels=st.sampled_from(LABELS),
    mask=st.sampled_from(MASKS),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 2**20),
)
QUICK = settings(
    derandomize=True, database=None, deadline=None, max_examples=8, suppress_health_check=list(HealthCheck)
)


def check(name: str, setting: Setting) -> None:
    """Raise AssertionError unless values and gradients are finite."""
    inputs = Inputs(setting)
    outputs = CALLS[name](inputs)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    for output in outputs:
        assert output.isfinite().all(), (name, setting)
    total = sum(output.float().sum() for output in outputs if output.requires_grad)
    if not isinstance(total, torch.Tensor):
        return
    grads = torch.autograd.grad(total, inputs.leaves, allow_unused=True)
    for grad in grads:
        assert grad is None or grad.isfinite().all(), (name, setting)


def test_no_loss_and_no_head_is_left_out() -> None:
    assert not [name for name in registered() if not any(call.split()[0] == name for call in CALLS)]


@pytest.mark.parametrize('name', CALLS)
def test_named_inputs(name: str) -> None:
    for setting in NAMED.values():
        check(name, setting)


@pytest.mark.parametrize('name', CALLS)
@QUICK
@given(setting=ANY)
def test_any_input(name: str, setting: Setting) -> None:
    check(name, setting)


@pytest.mark.slow
@pytest.mark.parametrize('name', CALLS)
@settings(QUICK, max_examples=400)
@given(setting=ANY)
def test_many_inputs(name: str, setting: Setting) -> None:
    check(name, setting)
