"""Moving average of weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmwsss.models.utils import ema_update_


def make_net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 3, bias=False))
    net.register_buffer('table', torch.randn(4))
    net[1](torch.randn(6, 7) * seed)
    return net


@pytest.mark.parametrize('momentum', [0.9994, 0.99, 0.5, 0.0, 1.0])
def test_parameters_follow_the_formula_and_buffers_are_copied(momentum: float) -> None:
    target, source = make_net(1).requires_grad_(False), make_net(2)
    before = {name: value.clone() for name, value in target.named_parameters()}
    kept = {name: value.clone() for name, value in source.state_dict().items()}
    ema_update_(target, source, momentum)
    for name, value in source.named_parameters():
        plain = momentum * before[name] + (1 - momentum) * value
        torch.testing.assert_close(target.get_parameter(name), plain.detach(), rtol=2e-7, atol=2e-8)
    for name, value in source.named_buffers():
        assert torch.equal(target.get_buffer(name), value), name
    assert all(torch.equal(value, kept[name]) for name, value in source.state_dict().items())
    assert source[1].num_batches_tracked == 1


def test_large_weights_lose_no_digits_of_the_small_ones() -> None:
    target, source = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(target.weight, 1e-4)
    nn.init.constant_(source.weight, 1e3)
    ema_update_(target, source, 1.0)
    assert target.weight.item() == pytest.approx(1e-4, rel=1e-7)
    ema_update_(target, source, 0.0)
    assert target.weight.item() == 1e3


def test_target_parameters_may_want_gradients() -> None:
    target, source = make_net(1), make_net(2)
    ema_update_(target, source, 0.5)
    assert all(value.grad_fn is None and value.requires_grad for value in target.parameters())


def test_nothing_to_average() -> None:
    ema_update_(nn.Identity(), nn.Identity(), 0.5)


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        (nn.Sequential(nn.Linear(2, 3)), r'parameter 0\.weight has shape \(2, 2\) in the target and \(3, 2\)'),
        (nn.Sequential(nn.Linear(2, 2, bias=False)), r'parameter 0\.bias has shape \(2,\) in the target and none'),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(1, 1)), r'parameter 1\.weight has shape none in the target'),
    ],
)
def test_other_networks_are_refused(source: nn.Module, message: str) -> None:
    target = nn.Sequential(nn.Linear(2, 2))
    before = target[0].weight.detach().clone()
    with pytest.raises(ValueError, match=message):
        ema_update_(target, source, 0.5)
    assert torch.equal(target[0].weight, before)


def test_other_buffers_are_refused() -> None:
    target, source = make_net(1), make_net(2)
    source.register_buffer('more', torch.zeros(1))
    with pytest.raises(ValueError, match='buffer more has shape none in the target'):
        ema_update_(target, source, 0.5)
