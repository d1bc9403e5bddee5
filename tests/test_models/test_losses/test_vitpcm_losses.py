"""Losses of ViT-PCM against loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from mmwsss.models.losses import classifier_l2, equivariance_loss, multilabel_cls_loss
from mmwsss.models.losses.equivariance import equivariance_target
from mmwsss.ops import apply_flips
from mmwsss.pseudo_labels import mask_maps_with_labels
from mmwsss.registry import MODELS

EPS = 1e-7


def bce(scores: np.ndarray, labels: np.ndarray) -> float:
    total = 0.0
    for p, t in zip(scores.ravel(), labels.ravel()):
        p = min(max(p, EPS), 1 - EPS)
        total -= t * math.log(p + EPS) + (1 - t) * math.log(1 - p + EPS)
    return total / scores.size


def cross_entropy(student: np.ndarray, target: np.ndarray) -> float:
    batch, _, height, width = student.shape
    total = 0.0
    for b, y, x in np.ndindex(batch, height, width):
        mass = student[b, :, y, x].sum()
        for s, t in zip(student[b, :, y, x], target[b, :, y, x]):
            total -= t * math.log(min(max(s / mass if mass else 0, EPS), 1 - EPS))
    return total / (batch * height * width)


def test_classification_loss_with_saturated_scores() -> None:
    scores = torch.rand(3, 4, dtype=torch.float64)
    scores[0, :2] = torch.tensor([0.0, 1.0])
    labels = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.float64)
    loss = multilabel_cls_loss(scores, labels)
    assert loss.item() == pytest.approx(bce(scores.numpy(), labels.numpy()), abs=1e-12)
    assert abs(loss - F.binary_cross_entropy(scores, labels)) > 1
    assert gradcheck(lambda s: multilabel_cls_loss(s, labels[1:]), scores[1:].clone().requires_grad_())


def test_saturated_scores_get_no_gradient_beyond_the_clip() -> None:
    scores = torch.tensor([[0.0, 1.0, 0.5]], requires_grad=True)
    multilabel_cls_loss(scores, torch.tensor([[1.0, 0.0, 1.0]])).backward()
    assert scores.grad.isfinite().all()
    assert scores.grad[0, 2] < 0


def test_classification_loss_without_a_second_eps() -> None:
    scores = torch.tensor([[0.0, 1.0, 0.25], [1.0, 0.0, 0.5]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1.0, 0, 1], [1, 0, 0]], dtype=torch.float64)
    loss = multilabel_cls_loss(scores, labels, eps_in_log=False)
    wrong, right = -math.log(EPS), -math.log(1 - EPS)
    expected = (2 * wrong + 2 * right - math.log(0.25) - math.log(0.5)) / 6
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    with_eps = multilabel_cls_loss(scores, labels)
    assert (loss - with_eps).item() == pytest.approx(2 * math.log(2) / 6, rel=1e-5), 'eps doubles what the clip left'
    loss.backward()
    assert scores.grad.isfinite().all()
    inner = torch.tensor([[0.2, 0.7, 0.5]], dtype=torch.float64)
    plain = F.binary_cross_entropy(inner, labels[:1])
    torch.testing.assert_close(multilabel_cls_loss(inner, labels[:1], eps_in_log=False), plain)
    module = MODELS.build(dict(type='MultiLabelClsLoss', eps_in_log=False, loss_weight=2.0))
    assert module(scores, labels).item() == pytest.approx(2 * expected, rel=1e-2)
    assert module(inner, labels[:1]).item() == pytest.approx(2 * plain.item(), rel=1e-6)


def test_classifier_penalty_is_neither_halved_nor_averaged() -> None:
    weight = torch.randn(3, 5, dtype=torch.float64)
    expected = 0.01 * (weight.numpy() ** 2).sum()
    assert classifier_l2(weight).item() == pytest.approx(expected, rel=1e-6)
    parameter = weight.float().requires_grad_()
    MODELS.build(dict(type='ClassifierL2', factor=0.5))(parameter).backward()
    torch.testing.assert_close(parameter.grad, weight.float())


def test_equivariance_loss_with_empty_patches() -> None:
    student = torch.rand(2, 3, 2, 4, dtype=torch.float64)
    target = torch.rand(2, 3, 2, 4, dtype=torch.float64)
    student[0, :, 1, 2] = 0
    target[1, :, 0, 0] = 0
    loss = equivariance_loss(student, target)
    assert loss.item() == pytest.approx(cross_entropy(student.numpy(), target.numpy()), rel=1e-10)
    student = torch.rand(1, 3, 2, 2, dtype=torch.float64) + 0.1
    assert gradcheck(lambda s: equivariance_loss(s, target[:1, :, :, :2]), student.requires_grad_())


def test_no_gradient_into_the_target() -> None:
    student, target = (torch.rand(1, 2, 3, 3, requires_grad=True) for _ in range(2))
    equivariance_loss(student, target).backward()
    assert target.grad is None
    assert student.grad.abs().sum() > 0


def test_target_undoes_view_1_and_replays_view_2() -> None:
    original = torch.rand(2, 3, 4, 4)
    first = torch.tensor([[1.0, 0, 1, *[0] * 6], [0, 1, 1, *[0] * 6]])
    second = torch.tensor([[0.0, 1, 0, 0, 0, 0, 0, 16, 16], [1, 1, 0, 0, 0, 0, 0, 16, 16]])
    target = equivariance_target(apply_flips(original, first), first, second, 4, None)
    torch.testing.assert_close(target, apply_flips(original, second), atol=1e-5, rtol=0)


def test_target_keeps_absent_classes_out_and_uses_the_crop_only() -> None:
    teacher = torch.rand(1, 3, 4, 4)
    records = torch.zeros(2, 1, 9)
    records[1, 0, 3:] = torch.tensor([4, 4, 12, 12, 8, 8])
    labels = torch.tensor([[1.0, 0.0, 1.0]])
    target = equivariance_target(teacher, records[0], records[1], 4, labels)
    torch.testing.assert_close(target, mask_maps_with_labels(teacher[..., 1:3, 1:3], labels), atol=1e-5, rtol=0)
    assert (target[:, 1] == 0).all()


@pytest.mark.parametrize('use_labels', [True, False])
def test_losses_stay_float32_under_autocast(use_labels: bool) -> None:
    maps = torch.rand(2, 3, 4, 4).softmax(dim=1)
    records = torch.zeros(2, 9)
    resized = torch.zeros(2, 9)
    resized[:, 7:] = 12
    labels = torch.tensor([[1.0, 0, 1], [1, 1, 0]])
    student = torch.rand(2, 3, 3, 3).softmax(dim=1)
    equivariance = MODELS.build(dict(type='EquivarianceLoss', use_labels=use_labels, loss_weight=2.0))
    classification = MODELS.build(dict(type='MultiLabelClsLoss', loss_weight=3.0))
    penalty = MODELS.build(dict(type='ClassifierL2'))

    def losses() -> list[torch.Tensor]:
        return [
            equivariance(student, maps, records, resized, 4, labels),
            classification(maps.amax((2, 3)), labels),
            penalty(labels),
        ]

    plain = losses()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        cast = losses()
    for a, b in zip(plain, cast):
        assert b.dtype == torch.float32
        assert torch.equal(a, b)
    target = equivariance_target(maps, records, resized, 4, labels if use_labels else None)
    torch.testing.assert_close(plain[0], 2 * equivariance_loss(student, target))
    torch.testing.assert_close(plain[1], 3 * multilabel_cls_loss(maps.amax((2, 3)), labels))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_scores_are_raised_to_float32(dtype: torch.dtype) -> None:
    scores = torch.tensor([[1.0, 0.0, 0.25]], dtype=dtype)
    labels = torch.tensor([[0.0, 1.0, 1.0]])
    loss = MODELS.build(dict(type='MultiLabelClsLoss'))(scores, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(bce(scores.double().numpy(), labels.numpy()), rel=1e-1)
    assert loss.isfinite()


def test_descent_lowers_the_losses() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    target = torch.rand(2, 3, 4, 4).softmax(dim=1)
    labels = torch.tensor([[1.0, 1, 0], [1, 0, 1]])
    history = []
    for _ in range(5):
        maps = logits.softmax(dim=1)
        loss = equivariance_loss(maps, target) + multilabel_cls_loss(maps.amax((2, 3)), labels)
        history.append(loss.item())
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - 0.5 * gradient).detach().requires_grad_()
    assert history == sorted(history, reverse=True)
