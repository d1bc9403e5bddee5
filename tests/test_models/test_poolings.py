"""Poolings of patch scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from mmwsss.models.poolings import global_average_pool, global_max_pool, topk_pool
from mmwsss.registry import POOLINGS

POOLS = {
    'GlobalMaxPooling': lambda flat: flat.max(-1),
    'GlobalAveragePooling': lambda flat: flat.mean(-1),
    'TopKPooling': lambda flat: np.sort(flat)[..., -6:].mean(-1),
}


@pytest.mark.parametrize('name', POOLS)
@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 1e-2)]
)
def test_values_on_a_rectangular_grid(name: str, dtype: torch.dtype, tolerance: float) -> None:
    scores = torch.rand(2, 3, 4, 6, dtype=torch.float64)
    out = POOLINGS.build(dict(type=name))(scores.to(dtype))
    assert out.dtype == dtype
    expected = POOLS[name](scores.flatten(2).numpy())
    np.testing.assert_allclose(out.double().numpy(), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize('pool', [global_max_pool, global_average_pool, lambda s: topk_pool(s, 3)])
def test_gradients(pool) -> None:
    assert gradcheck(pool, torch.randperm(24).double().reshape(1, 2, 3, 4).requires_grad_())


def test_tied_maxima_share_the_gradient() -> None:
    scores = torch.tensor([[[[0.5, 0.9], [0.9, 0.9]]]], requires_grad=True)
    global_max_pool(scores).sum().backward()
    torch.testing.assert_close(scores.grad.flatten(), torch.tensor([0, 1 / 3, 1 / 3, 1 / 3]))


def test_top_k_of_fewer_patches_is_the_mean_and_top_1_the_maximum() -> None:
    scores = torch.rand(2, 3, 2, 2)
    torch.testing.assert_close(topk_pool(scores, 10), scores.mean(dim=(-2, -1)))
    torch.testing.assert_close(topk_pool(scores, 1), global_max_pool(scores))


def test_top_k_needs_a_patch() -> None:
    with pytest.raises(ValueError, match='k >= 1, got 0'):
        POOLINGS.build(dict(type='TopKPooling', k=0))
    assert 'k=4' in repr(POOLINGS.build(dict(type='TopKPooling', k=4)))
