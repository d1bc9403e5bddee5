"""Losses of equivariance: zero where maps follow the scale, and where gradients go."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmwsss.models.losses import EquivariantRegularization, MinPoolingLoss, hardest_mean, min_pooling_loss
from mmwsss.models.losses.seam import rectified_min_max
from mmwsss.registry import MODELS

LABELS = torch.tensor([[1.0, 1, 0, 1], [1, 0, 1, 0]])
Pair = tuple[Tensor, Tensor]


def views(seed: int = 0) -> tuple[Pair, Pair]:
    generator = torch.Generator().manual_seed(seed)
    sizes = ((20, 30), (6, 9))
    cams, refined = (
        tuple(torch.rand(2, 4, *size, generator=generator).requires_grad_() for size in sizes) for _ in 'ab'
    )
    return cams, refined


def equal_views(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Both views of maps that follow the scale: enlarging keeps corners, so that the inverse resize is exact."""
    large = torch.nn.functional.interpolate(maps, (13, 19), mode='bilinear', align_corners=True)
    return large, maps


def test_maps_that_follow_the_scale_cost_nothing() -> None:
    exclusive = torch.zeros(2, 4, 5, 7)
    exclusive[:, 1, :2], exclusive[:, 3, 3:] = 1, 1
    large, small = equal_views(exclusive)
    refined = tuple(torch.cat((1 - maps[:, 1:].amax(1, keepdim=True), maps[:, 1:]), dim=1) for maps in (large, small))
    labels = torch.tensor([[1.0, 1, 1, 1]] * 2)
    losses = EquivariantRegularization()((large, small), refined, labels)
    assert losses.keys() == {'loss_er', 'loss_ecr'}
    assert losses['loss_er'].item() == pytest.approx(0, abs=1e-4)
    assert losses['loss_ecr'].item() == pytest.approx(0, abs=1e-3)
    shifted = (large, small.roll(2, dims=-2))
    assert EquivariantRegularization()(shifted, refined, labels)['loss_er'] > 0.05


def test_er_teaches_both_views() -> None:
    cams, refined = views()
    EquivariantRegularization()(cams, refined, LABELS)['loss_er'].backward()
    for cam in cams:
        assert cam.grad[:, 1:].any()
        assert not cam.grad[:, 0].any(), 'the background is derived'
        assert not cam.grad[0, 2].any(), 'an absent class counts as zero'
    assert all(maps.grad is None for maps in refined)


def test_ecr_teaches_the_refined_maps_but_not_its_targets() -> None:
    cams, refined = views()
    EquivariantRegularization()(cams, refined, LABELS)['loss_ecr'].backward()
    assert all(cam.grad is None for cam in cams)
    for maps in refined:
        assert maps.grad.any()
        assert maps.grad.isfinite().all()


def test_each_refined_map_is_compared_with_the_other_view() -> None:
    cams, refined = views()
    loss = EquivariantRegularization()
    before = loss(cams, refined, LABELS)['loss_ecr']
    for i in (0, 1):
        changed = list(cams)
        changed[i] = cams[i].flip(-1)
        _, other = views()
        loss(tuple(changed), other, LABELS)['loss_ecr'].backward()
        changed_grads = [maps.grad for maps in other]
        _, same = views()
        loss(cams, same, LABELS)['loss_ecr'].backward()
        assert torch.equal(changed_grads[i], same[i].grad), 'its own view is no target'
        assert not torch.equal(changed_grads[1 - i], same[1 - i].grad)
    assert before > 0


def test_weights() -> None:
    cams, refined = views()
    plain = EquivariantRegularization()(cams, refined, LABELS)
    weighted = MODELS.build(dict(type='EquivariantRegularization', er_weight=2.0, ecr_weight=3.0))
    found = weighted(cams, refined, LABELS)
    torch.testing.assert_close(found['loss_er'], 2 * plain['loss_er'])
    torch.testing.assert_close(found['loss_ecr'], 3 * plain['loss_ecr'])
    every = EquivariantRegularization(hard_share=1.0)(cams, refined, LABELS)
    assert every['loss_ecr'] < plain['loss_ecr']
    torch.testing.assert_close(every['loss_er'], plain['loss_er'])


@pytest.mark.parametrize('value', [0.0, 0.7, -2.0])
def test_constant_maps_stay_finite(value: float) -> None:
    cams, refined = views()
    constant = [tuple(torch.full_like(maps, value).requires_grad_() for maps in pair) for pair in (cams, refined)]
    losses = EquivariantRegularization()(*constant, LABELS)
    sum(losses.values()).backward()
    assert losses['loss_er'] == 0
    assert losses['loss_ecr'].isfinite()
    assert all(maps.grad is None or maps.grad.isfinite().all() for pair in constant for maps in pair)
    assert not rectified_min_max(constant[0][0]).any()


def test_maps_are_brought_to_the_unit_range() -> None:
    maps = rectified_min_max(10 * torch.randn(2, 4, 5, 6))
    assert maps.min() == 0
    torch.testing.assert_close(maps.amax(dim=(-2, -1)), torch.ones(2, 4), rtol=0, atol=1e-4)
    assert rectified_min_max(torch.rand(1, 2, 3, 3).half()).dtype == torch.float32


def test_the_hardest_numbers_of_each_image() -> None:
    errors = torch.stack((torch.arange(20.0), torch.zeros(20))).reshape(2, 2, 10)
    assert hardest_mean(errors, 0.2).item() == pytest.approx((16 + 17 + 18 + 19) / 8)
    assert hardest_mean(errors, 1.0).item() == pytest.approx(9.5 / 2)


def test_the_smallest_quarter_of_the_best_present_map() -> None:
    maps = torch.full((1, 3, 2, 4), 9.0)
    maps[0, 0] = torch.tensor([[0.5, 7, 7, 7], [7, 7, 7, 7]])
    maps[0, 1] = torch.tensor([[0.1, 3, 7, 7], [1, 7, 7, 7]])
    labels = torch.tensor([[1.0, 1, 0]])
    assert min_pooling_loss(maps, labels).item() == pytest.approx((0.5 + 7) / 2)
    assert min_pooling_loss(maps, labels, share=8).item() == pytest.approx(0.5)
    assert min_pooling_loss(maps, torch.tensor([[0.0, 1, 0]])).item() == pytest.approx((0.1 + 1) / 2)
    assert min_pooling_loss(maps, torch.zeros(1, 3)) == 0
    assert min_pooling_loss(-maps, torch.ones(1, 3)) == 0, 'negative values are rectified'
    assert MinPoolingLoss(loss_weight=2.0)(maps, labels).item() == pytest.approx(7.5)


def test_min_pooling_averages_over_images() -> None:
    maps, labels = torch.rand(3, 2, 4, 4), torch.ones(3, 2)
    each = [min_pooling_loss(maps[i : i + 1], labels[:1]) for i in range(3)]
    torch.testing.assert_close(min_pooling_loss(maps, labels), torch.stack(each).mean())


def test_absent_classes_may_be_left_out() -> None:
    cams, refined = views()
    labels = torch.tensor([[1.0, 1, 0, 1]] * len(cams[0]))
    kept = [0, 1, 3]
    for share in (0.2, 0.9):
        loss = EquivariantRegularization(hard_share=share)
        every = loss(cams, refined, labels)
        few = loss(*([maps[:, kept] for maps in pair] for pair in (cams, refined)), labels[:, kept], num_classes=4)
        for name, value in every.items():
            torch.testing.assert_close(few[name], value)
