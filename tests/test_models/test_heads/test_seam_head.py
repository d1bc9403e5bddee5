"""SEAM's head: what learns from what, and the refinement by similarity."""

from __future__ import annotations

import pytest
import torch

from mmwsss.models.heads import SEAMHead
from mmwsss.models.heads.seam_head import exclusive_foreground, pixel_correlation


def features(channels: tuple[int, ...] = (4, 6, 8), size: tuple[int, int] = (4, 6)) -> list[torch.Tensor]:
    return [torch.rand(2, c, *size).requires_grad_() for c in channels]


def head(**settings) -> SEAMHead:
    return SEAMHead((4, 6, 8), 3, tap_channels=(5, 7), channels=9, **settings)


def test_shapes_at_the_size_of_the_last_features() -> None:
    first, second, last = features()
    large = torch.rand(2, 4, 8, 12)
    cam, refined = head()(torch.rand(2, 3, 32, 48), (large, second, last))
    assert cam.shape == refined.shape == (2, 3, 4, 6)
    assert head().similarity_features(torch.rand(2, 3, 4, 6), first, second).shape == (2, 9, 4, 6)


def test_the_refined_maps_teach_only_the_similarity() -> None:
    model, taps = head(), features()
    _, refined = model(torch.rand(2, 3, 32, 48), taps)
    (refined * torch.rand_like(refined)).sum().backward()
    assert all(tap.grad is None for tap in taps)
    assert model.fc8.weight.grad is None
    for name in ('f8_3', 'f8_4', 'f9'):
        assert getattr(model, name).weight.grad.any(), name


def test_the_maps_teach_the_classifier_and_the_last_features() -> None:
    model, taps = head(), features()
    cam, _ = model(torch.rand(2, 3, 32, 48), taps)
    cam.sum().backward()
    assert model.fc8.weight.grad.any()
    assert taps[0].grad is taps[1].grad is None
    assert taps[2].grad.any()
    assert model.f9.weight.grad is None


def test_pixels_alike_average_the_maps() -> None:
    maps = torch.rand(2, 3, 4, 6)
    refined = pixel_correlation(torch.ones(2, 5, 4, 6), maps)
    average = maps.mean(dim=(-2, -1), keepdim=True).expand_as(maps)
    torch.testing.assert_close(refined, average, rtol=1e-5, atol=1e-5)


def test_maps_spread_over_pixels_alike_only() -> None:
    kinds = torch.tensor([[[0, 0, 1], [1, 2, 2]]])
    directions = torch.eye(3)[kinds].permute(0, 3, 1, 2)
    maps = torch.rand(1, 2, 2, 3)
    refined = pixel_correlation(directions, maps)
    for kind in range(3):
        where = (kinds == kind)[0]
        average = maps[0, :, where].mean(dim=1, keepdim=True)
        torch.testing.assert_close(refined[0, :, where], average.expand(2, 2), rtol=1e-4, atol=1e-5)
    opposite = torch.tensor([1.0, -1.0])[None, None, None]
    torch.testing.assert_close(pixel_correlation(opposite, maps[:, :, :1, :2]), maps[:, :, :1, :2], rtol=1e-4, atol=0)


def test_pixels_without_features_stay_finite() -> None:
    directions = torch.rand(1, 5, 2, 3)
    directions[..., 0, 0] = 0
    directions.requires_grad_()
    refined = pixel_correlation(directions, torch.rand(1, 2, 2, 3))
    assert not refined[..., 0, 0].any()
    assert refined.isfinite().all()
    refined.sum().backward()
    assert directions.grad.isfinite().all()
    assert not pixel_correlation(torch.zeros(1, 5, 2, 3), torch.rand(1, 2, 2, 3)).any()


def test_only_the_best_foreground_class_is_left() -> None:
    maps = torch.tensor([0.9, 0.2, 0.3, 0.1])[None, :, None, None]
    assert exclusive_foreground(maps).flatten().tolist() == pytest.approx([0.9, 0, 0.3, 0])


def test_maps_in_the_unit_range_with_a_background() -> None:
    cam = 5 * torch.randn(2, 3, 4, 6)
    maps = SEAMHead.normalized(cam)
    assert maps.min() >= 0
    assert maps.max() <= 1
    foreground = maps[:, 1:]
    torch.testing.assert_close(maps[:, 0], 1 - foreground.amax(dim=1))
    assert ((foreground > 0).sum(dim=1) <= 1).all()
    torch.testing.assert_close(SEAMHead.normalized(cam.exp())[:, 1:].amax((1, 2, 3)), torch.ones(2), rtol=1e-3, atol=0)
    empty = SEAMHead.normalized(-cam.abs())
    assert (empty[:, 0] == 1).all()
    assert not empty[:, 1:].any()


def test_dropout_is_before_the_classifier() -> None:
    model, images, taps = head(dropout=0.5), torch.rand(2, 3, 32, 48), features()
    model.train()
    assert not torch.equal(model(images, taps)[0], model(images, taps)[0])
    model.eval()
    assert torch.equal(model(images, taps)[0], model(images, taps)[0])
