import pytest
import torch

from mmwsss.registry import MODELS


def test_kinds_of_pairs_are_averaged_apart():
    affinity = torch.tensor([[[0.5, 0.5, 0.25, 0.9]]])
    background = torch.tensor([[[1.0, 0, 0, 0]]])
    foreground = torch.tensor([[[0.0, 1, 1, 0]]])
    different = torch.tensor([[[0.0, 0, 0, 1]]])
    loss = MODELS.build(dict(type='AffinityLoss', loss_weight=2.0))
    logs = torch.log(torch.tensor([0.5, 0.25, 0.1])).neg().tolist()
    expected = 2 * (logs[0] / 4 + (logs[0] + logs[1]) / 2 / 4 + logs[2] / 2)
    assert loss(affinity, background, foreground, different).item() == pytest.approx(expected, rel=1e-3)


def test_without_pairs_it_is_zero_with_a_gradient():
    affinity = torch.rand(1, 2, 3).requires_grad_()
    none = torch.zeros(1, 2, 3)
    loss = MODELS.build(dict(type='AffinityLoss'))(affinity, none, none, none)
    loss.backward()
    assert loss.item() == 0
    assert not affinity.grad.any()
