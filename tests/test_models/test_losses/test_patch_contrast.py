"""Contrast of confident patches against loops over all pairs of patches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from mmwsss.models.losses.patch_contrast import patch_contrast_loss, patch_pairs
from mmwsss.registry import MODELS


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    norms = [max(math.sqrt((v * v).sum()), 1e-8) for v in (a, b)]
    return (1 + (a * b).sum() / norms[0] / norms[1]) / 2


def looped_pairs(embeddings: Tensor, maps: Tensor, high: float, low: float) -> list[list[tuple[float, int, int]]]:
    """Error and numbers of positive and negative pairs for each image and class."""
    vectors, scores = embeddings.detach().flatten(2).double().numpy(), maps.flatten(2).double().numpy()
    result = []
    for image_vectors, image_scores in zip(vectors, scores):
        result.append([])
        for row in image_scores:
            pull, push = [], []
            for i in range(len(row)):
                for j in range(len(row)):
                    value = similarity(image_vectors[:, i], image_vectors[:, j])
                    if row[i] > high and row[j] > high and i < j:
                        pull.append(1 - value)
                    if row[i] > high and row[j] < low:
                        push.append(value)
            error = sum(sum(part) / len(part) for part in (pull, push) if part)
            result[-1].append((error, len(pull), len(push)))
    return result


def make_case(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings (3, 5, 3, 4), confident maps (3, 4, 3, 4) and labels; the last image has no foreground."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(3, 5, 3, 4, dtype=torch.float64, generator=generator)
    maps = (3 * torch.randn(3, 4, 3, 4, dtype=torch.float64, generator=generator)).softmax(dim=1)
    labels = torch.tensor([[1, 1, 0, 1], [1, 0, 1, 0], [1, 0, 0, 0]])
    return embeddings.to(dtype).requires_grad_(), maps.to(dtype), labels.to(dtype)


@pytest.mark.parametrize(('high', 'low'), [(0.85, 0.15), (0.6, 0.3), (0.5, 0.5), (0.95, 0.0), (0.0, 0.0)])
def test_pairs_equal_those_of_the_loops(high: float, low: float) -> None:
    embeddings, maps, _ = make_case()
    pairs = patch_pairs(embeddings, maps, high, low)
    expected = torch.tensor(looped_pairs(embeddings, maps, high, low), dtype=torch.float64)
    torch.testing.assert_close(pairs.errors, expected[..., 0])
    assert torch.equal(pairs.positive, expected[..., 1].long())
    assert torch.equal(pairs.negative, expected[..., 2].long())
    assert pairs.positive.dtype == pairs.negative.dtype == torch.int64
    assert (high, low) == (0.95, 0.0) or pairs.positive.any()


@pytest.mark.parametrize('include_bg', [True, False])
def test_mean_over_present_classes_then_over_images(include_bg: bool) -> None:
    embeddings, maps, labels = make_case()
    total = 0.0
    for errors, row in zip(looped_pairs(embeddings, maps, 0.6, 0.3), labels):
        present = [c for c in range(4) if row[c] and (c > 0 or include_bg)]
        total += sum(errors[c][0] for c in present) / max(len(present), 1)
    loss = patch_contrast_loss(embeddings, maps, labels, 0.6, 0.3, include_bg)
    assert loss.item() == pytest.approx(total / 3, abs=1e-12)
    module = MODELS.build(dict(type='PatchContrastLoss', high=0.6, low=0.3, include_bg=include_bg, loss_weight=0.5))
    assert module(embeddings, maps, labels).item() == pytest.approx(total / 6, abs=1e-12)


def test_confident_patches_of_one_class_that_are_alike_cost_nothing() -> None:
    maps = torch.tensor([[[[0.9, 0.9, 0.1, 0.1]], [[0.1, 0.1, 0.9, 0.9]]]])
    labels = torch.ones(1, 2)
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([-1.0, -2.0])
    apart = torch.stack((a, 3 * a, b, 2 * b), dim=1)[None, :, None]
    assert patch_contrast_loss(apart, maps, labels).item() == pytest.approx(0, abs=1e-6)
    mixed = torch.stack((a, b, a, b), dim=1)[None, :, None]
    assert patch_contrast_loss(mixed, maps, labels).item() == pytest.approx(1.5)  # opposite pairs, a half of others


def test_scores_at_a_threshold_are_not_confident() -> None:
    maps = torch.tensor([[[[0.75, 0.875, 0.25, 0.125]]]])
    pairs = patch_pairs(torch.randn(1, 3, 1, 4), maps, 0.75, 0.25)
    assert (pairs.positive.item(), pairs.negative.item()) == (0, 1)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_without_confident_patches_the_loss_is_zero_and_has_a_graph(dtype: torch.dtype) -> None:
    embeddings, maps, labels = make_case(dtype=dtype)
    loss = patch_contrast_loss(embeddings, torch.full_like(maps, 0.25), labels)
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))


@pytest.mark.parametrize('labels', [[[0, 0, 0, 0]], [[1, 0, 0, 0]]])
def test_without_present_classes_the_loss_is_zero_and_has_a_graph(labels: list) -> None:
    embeddings, maps, _ = make_case()
    rows = torch.tensor(labels).expand(3, 4)
    loss = patch_contrast_loss(embeddings, maps, rows, include_bg=False)
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))


@pytest.mark.parametrize('zeros', ['all', 'some'])
def test_embeddings_of_zero(zeros: str) -> None:
    embeddings, maps, labels = make_case(dtype=torch.float32)
    keep = torch.zeros(3, 4) if zeros == 'all' else torch.arange(12).view(3, 4) % 2
    embeddings = (embeddings.detach() * keep).requires_grad_()
    pairs = patch_pairs(embeddings, maps, 0.6, 0.3)
    expected = torch.tensor(looped_pairs(embeddings, maps, 0.6, 0.3))[..., 0]  # their cosine is 0
    torch.testing.assert_close(pairs.errors, expected.float(), atol=1e-5, rtol=1e-5)
    patch_contrast_loss(embeddings, maps, labels, 0.6, 0.3).backward()
    assert embeddings.grad.isfinite().all()


def test_gradients() -> None:
    embeddings, maps, labels = make_case()
    assert gradcheck(lambda x: patch_contrast_loss(x, maps, labels, 0.6, 0.3), embeddings)
    assert gradcheck(lambda x: patch_pairs(x, maps, 0.6, 0.3).errors, embeddings)


def test_both_sides_of_a_pair_take_a_gradient_and_the_scores_none() -> None:
    maps = torch.tensor([[[[0.9, 0.9, 0.5, 0.1]]]], requires_grad=True)
    embeddings = torch.randn(1, 3, 1, 4, requires_grad=True)
    patch_contrast_loss(embeddings, maps, torch.ones(1, 1)).backward()
    moved = embeddings.grad.abs().sum(dim=1).flatten() > 0
    assert moved.tolist() == [True, True, False, True]
    assert maps.grad is None


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    embeddings, maps, labels = make_case(dtype=torch.float32)
    embeddings = embeddings.detach().to(dtype)
    module = MODELS.build(dict(type='PatchContrastLoss', high=0.6, low=0.3))
    expected = module(embeddings.float(), maps, labels)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        for given in (embeddings, embeddings.float()):
            loss = module(given, maps, labels)
            assert loss.dtype == torch.float32
            assert torch.equal(loss, expected)
        embeddings.requires_grad_()
        module(embeddings, maps, labels).backward()
    assert embeddings.grad.dtype == dtype
    assert embeddings.grad.abs().sum() > 0


def test_descent_lowers_the_loss() -> None:
    embeddings, maps, labels = make_case()
    history = []
    for _ in range(5):
        loss = patch_contrast_loss(embeddings, maps, labels, 0.6, 0.3)
        history.append(loss.item())
        (gradient,) = torch.autograd.grad(loss, embeddings)
        embeddings = (embeddings - 2 * gradient).detach().requires_grad_()
    assert history == sorted(history, reverse=True)
    assert history[-1] < 0.95 * history[0]


def test_the_lower_threshold_mirrors_the_upper_one() -> None:
    module = MODELS.build(dict(type='PatchContrastLoss', high=0.75))
    assert (module.high, module.low) == (0.75, 0.25)
    assert module.include_bg
    embeddings, maps, labels = make_case()
    expected = 0.1 * patch_contrast_loss(embeddings, maps, labels, 0.75, 0.25)
    torch.testing.assert_close(module(embeddings, maps, labels), expected)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(high=0.3), r'0 <= low <= high <= 1, got low=0\.7 and high=0\.3'),
        (dict(high=0.5, low=0.6), r'got low=0\.6 and high=0\.5'),
        (dict(high=1.2), r'got low=-0\.2 and high=1\.2'),
        (dict(low=-0.1), r'got low=-0\.1 and high=0\.85'),
    ],
)
def test_impossible_thresholds(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type='PatchContrastLoss', **settings))
