"""Poolings of patch scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from mmwsss.models.poolings import AdaptiveKPooling, adaptive_k, global_average_pool, global_max_pool, topk_pool
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


STEPS = [0.9, 0.85, 0.8, 0.4, 0.3, 0.05, 0.04, 0.0]  # drops .05 .05 .4 .1 .25 .01 .04, relative ones .06 .06 .5 .25 .83


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        (dict(rule='ratio', tau=0.9, kmin=1), 2),
        (dict(rule='ratio', tau=0.4, kmin=1), 4),
        (dict(rule='ratio', tau=0.4, kmin=1, kmax=3), 3),
        (dict(rule='ratio', tau=0.99, kmin=3), 3),
        (dict(rule='ratio', tau=0.0, kmin=1, kmax=None), 8),
        (dict(rule='ratio', tau=1.0, kmin=1), 1),
        (dict(rule='gap', kmin=1), 3),
        (dict(rule='gap', kmin=4), 5),
        (dict(rule='gap', kmin=1, kmax=2), 1),
        (dict(rule='gap', kmin=2, kmax=2), 2),
        (dict(rule='rel_gap', kmin=1, kmax=4), 3),
        (dict(rule='rel_gap', kmin=1, kmax=6), 5),
        (dict(rule='rel_gap', kmin=1, kmax=None), 7),
        (dict(rule='fixed', k=4), 4),
        (dict(rule='fixed', k=100), 8),
        (dict(rule='max', kmin=5), 1),
    ],
)
def test_rules_on_scores_made_by_hand(settings: dict, expected: int) -> None:
    ranked = torch.tensor([STEPS, STEPS], dtype=torch.float64, requires_grad=True)
    number = adaptive_k(ranked, **settings)
    assert number.tolist() == [expected, expected]
    assert number.dtype == torch.int64
    assert not number.requires_grad
    pool = AdaptiveKPooling(**settings)
    shuffled = ranked[:1, None, [3, 0, 7, 5, 2, 6, 4, 1]].reshape(1, 1, 2, 4)
    assert pool(shuffled).item() == pytest.approx(np.mean(STEPS[:expected]), abs=1e-12)


@pytest.mark.parametrize(
    ('ranked', 'settings', 'expected'),
    [
        ([0.5, 0.5, 0.5, 0.5], dict(rule='ratio', tau=1.0, kmin=1), 4),  # as good as the best one
        ([0.5, 0.5, 0.5, 0.5], dict(rule='gap', kmin=2), 2),  # the first of equal drops
        ([0.75, 0.5, 0.25, 0.0], dict(rule='gap', kmin=1), 1),
        ([0.8, 0.4, 0.2, 0.1], dict(rule='rel_gap', kmin=1, kmax=2), 1),
        ([0.0, 0.0, 0.0], dict(rule='ratio', kmin=1), 3),
        ([0.0, 0.0, 0.0], dict(rule='rel_gap', kmin=1), 1),
        ([-1.0, -1.05, -1.2, -3.0], dict(rule='ratio', tau=0.9, kmin=1), 2),  # down to -1.1
        ([-1.0, -1.05, -1.2, -3.0], dict(rule='ratio', tau=0.5, kmin=1), 3),
        ([-1.0, -1.05, -1.2, -3.0], dict(rule='gap', kmin=1), 3),
        ([-1.0, -1.5, -3.0], dict(rule='rel_gap', kmin=1), 2),
        ([1.0, 0.95, -0.95], dict(rule='ratio', tau=0.9, kmin=1), 2),
    ],
)
def test_ties_zeros_and_negative_scores(ranked: list[float], settings: dict, expected: int) -> None:
    assert adaptive_k(torch.tensor(ranked), **settings).item() == expected


@pytest.mark.parametrize('rule', ['ratio', 'gap', 'rel_gap', 'fixed', 'max'])
@pytest.mark.parametrize('n', [1, 2, 3, 4])
def test_fewer_patches_than_the_bounds(rule: str, n: int) -> None:
    ranked = torch.linspace(1.0, 0.1, 4)[:n]
    number = adaptive_k(ranked, rule, kmin=3, kmax=9, k=9).item()
    assert number == dict(max=1).get(rule, min(n, dict(fixed=9).get(rule, 3)))
    pooled = AdaptiveKPooling(rule, kmin=3, kmax=9, k=9)(ranked.view(1, 1, n, 1))
    assert pooled.item() == pytest.approx(ranked[:number].mean().item())


def test_every_image_and_class_has_its_own_k() -> None:
    scores = torch.tensor(
        [[[0.9, 0.1, 0.1, 0.1], [0.9, 0.89, 0.88, 0.1]], [[0.2, 0.2, 0.2, 0.2], [0.1, 0.5, 0.5, 0.1]]]
    )
    pool = AdaptiveKPooling('ratio', tau=0.9, kmin=1)
    assert pool.count(scores.sort(dim=-1, descending=True).values).tolist() == [[1, 3], [4, 2]]
    torch.testing.assert_close(pool(scores[..., None]), torch.tensor([[0.9, 0.89], [0.2, 0.5]]))


@pytest.mark.parametrize('rule', ['ratio', 'gap', 'rel_gap', 'fixed', 'max'])
def test_each_of_the_k_patches_takes_one_kth_of_the_gradient(rule: str) -> None:
    scores = torch.rand(3, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    pool = AdaptiveKPooling(rule, tau=0.8, kmin=2, kmax=7)
    weights = torch.randn(3, 4, dtype=torch.float64)
    (pool(scores) * weights).sum().backward()
    selected = pool.selection(scores)
    number = selected.sum(dim=(2, 3), keepdim=True)
    assert rule in ('fixed', 'max') or number.unique().numel() > 1, 'classes differ'
    torch.testing.assert_close(scores.grad, selected * weights[..., None, None] / number)


def test_gradients_of_adaptive_k() -> None:
    # steps far apart, so that no choice changes within the differences
    scores = (torch.randperm(24).double() / 24).reshape(1, 2, 3, 4).requires_grad_()
    for rule in ('gap', 'rel_gap', 'fixed', 'max'):
        assert gradcheck(AdaptiveKPooling(rule, kmax=5, k=3), scores.detach().exp().requires_grad_())
    assert gradcheck(AdaptiveKPooling('ratio', tau=0.87), scores)


POOLINGS_OF_PATCHES = [
    dict(type='GlobalMaxPooling'),
    dict(type='GlobalAveragePooling'),
    dict(type='TopKPooling', k=3),
    dict(type='TopKPooling', k=99),
    dict(type='AdaptiveKPooling'),
    dict(type='AdaptiveKPooling', rule='gap', kmin=1, kmax=None),
    dict(type='AdaptiveKPooling', rule='rel_gap'),
    dict(type='AdaptiveKPooling', rule='fixed', k=5),
    dict(type='AdaptiveKPooling', rule='max'),
]


@pytest.mark.parametrize('config', POOLINGS_OF_PATCHES, ids=str)
def test_selection_count_and_values_agree(config: dict) -> None:
    pool = POOLINGS.build(config)
    scores = torch.rand(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    pooled = pool(scores)
    (gradient,) = torch.autograd.grad(pooled.sum(), scores)
    selected = pool.selection(scores)
    assert selected.dtype == torch.bool
    assert selected.shape == scores.shape
    assert torch.equal(selected, gradient > 0)
    number = pool.count(scores.flatten(2).sort(dim=-1, descending=True).values)
    assert torch.equal(selected.sum(dim=(2, 3)), number)
    torch.testing.assert_close((selected * scores).sum(dim=(2, 3)) / number, pooled)
    best = scores.where(selected, torch.inf).amin(dim=(2, 3), keepdim=True)
    assert ((scores >= best) == selected).all()


def test_of_tied_patches_the_first_are_selected() -> None:
    scores = torch.full((1, 2, 2, 3), 0.5)
    selected = AdaptiveKPooling('fixed', k=2).selection(scores)
    assert selected.flatten(2).tolist() == [[[True, True, False, False, False, False]] * 2]


def test_adaptive_k_under_half_precision() -> None:
    pool = AdaptiveKPooling(tau=0.9, kmin=1)
    scores = torch.tensor([[[[0.5, 0.46875], [0.25, 0.125]], [[1.0, 0.5], [0.25, 0.5]]]], dtype=torch.bfloat16)
    expected = torch.tensor([[0.484375, 1.0]])
    scores.requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        pooled = pool(scores)
    assert pooled.dtype == torch.bfloat16
    torch.testing.assert_close(pooled.float(), expected)
    pooled.sum().backward()
    assert scores.grad.flatten().tolist() == [0.5, 0.5, 0, 0, 1, 0, 0, 0]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert pool(scores.detach().float()).dtype == torch.float32


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(rule='relgap'), r"rule has to be one of .*'rel_gap'.*, got 'relgap'"),
        (dict(tau=1.1), r'tau has to lie between 0 and 1, got 1\.1'),
        (dict(tau=-0.1), r'tau has to lie between 0 and 1, got -0\.1'),
        (dict(kmin=0), r'1 <= kmin <= kmax and k >= 1, got kmin=0, kmax=10, k=6'),
        (dict(kmin=4, kmax=3), r'got kmin=4, kmax=3'),
        (dict(k=0), r'k >= 1, got .*k=0'),
    ],
)
def test_impossible_settings_of_adaptive_k(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        POOLINGS.build(dict(type='AdaptiveKPooling', **settings))


def test_settings_of_adaptive_k_are_shown() -> None:
    pool = POOLINGS.build(dict(type='AdaptiveKPooling', rule='gap', kmax=None))
    assert repr(pool) == "AdaptiveKPooling(rule='gap', tau=0.9, kmin=2, kmax=None, k=6)"
