"""Pretended under-fitting: the gate, each form and its use in mmseg's decode heads."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.registry import MODELS as MMSEG_MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from mmwsss.models.losses import UnderFittingCrossEntropyLoss, under_fitting_cross_entropy
from mmwsss.registry import MODELS

EASY, HARD = 6.0, -2.0  # logit of the labelled class of two


def picture(pixels: list[float]) -> tuple[Tensor, Tensor]:
    """Logits (1, 2, 1, W) whose class 0, the label of each pixel, has these values, and the mask."""
    logits = torch.zeros(1, 2, 1, len(pixels))
    logits[0, 0, 0] = torch.tensor(pixels)
    return logits.requires_grad_(), torch.zeros(1, 1, len(pixels), dtype=torch.long)


def pixel_losses(logits: Tensor, mask: Tensor) -> Tensor:
    return F.cross_entropy(logits.detach(), mask, reduction='none', ignore_index=255)


def held(losses: Tensor, form: str, k: float) -> Tensor:
    if form == 'none':
        return losses
    if form == 'clamp':
        return torch.minimum(losses, torch.tensor(k))
    return (losses + 1e-9) ** k if form == 'pow' else torch.where(losses <= k, losses, 0)


@pytest.mark.parametrize('form', ['none', 'clamp', 'pow', 'ignore'])
@pytest.mark.parametrize(('beta', 'k'), [(0.9, 0.5), (0.9, 1.5), (0.1, 0.5)])
def test_forms(form: str, beta: float, k: float) -> None:
    logits, mask = picture([EASY, EASY, 1, HARD])
    losses = pixel_losses(logits, mask)
    assert 0.1 < losses.mean() < 0.9, 'the gate is open for the larger beta only'
    expected = held(losses, form, k) if losses.mean() < beta else losses
    found = under_fitting_cross_entropy(logits, mask, form, beta, k)
    torch.testing.assert_close(found, expected.mean())
    found.backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize('form', ['clamp', 'ignore'])
def test_hard_pixels_do_not_teach(form: str) -> None:
    logits, mask = picture([EASY, EASY, 1, HARD])
    under_fitting_cross_entropy(logits, mask, form, beta=0.9, k=0.5).backward()
    assert not logits.grad[..., 3].any()
    assert logits.grad[..., 2].any()
    logits.grad = None
    under_fitting_cross_entropy(logits, mask, form, beta=0.1, k=0.5).backward()
    assert logits.grad[..., 3].any(), 'a network that does not fit yet learns from every pixel'


def test_the_gate_counts_ignored_pixels() -> None:
    logits, mask = picture([HARD, HARD, HARD, HARD])
    kept = under_fitting_cross_entropy(logits, mask, 'clamp', 1.0, 0.5)
    mask[..., 1:] = 255
    alone = pixel_losses(logits, mask).sum()
    assert kept.item() == pytest.approx(alone.item())
    assert alone > 1, 'the mean over labelled pixels would close the gate'
    assert under_fitting_cross_entropy(logits, mask, 'clamp', 1.0, 0.5).item() == pytest.approx(0.5 / 4)
    assert under_fitting_cross_entropy(logits, mask, 'none').item() == pytest.approx(alone.item() / 4)


@pytest.mark.parametrize('form', ['none', 'clamp', 'pow', 'ignore'])
def test_nothing_but_ignored_pixels(form: str) -> None:
    logits, mask = torch.randn(2, 3, 4, 5).requires_grad_(), torch.full((2, 4, 5), 255)
    loss = under_fitting_cross_entropy(logits, mask, form)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-4)
    assert not logits.grad.any()


def test_factors_of_pixels_come_after_the_gate() -> None:
    logits, mask = picture([EASY, EASY, 1, HARD])
    weights = torch.tensor([[[0.0, 2, 1, 100]]])
    expected = (pixel_losses(logits, mask).clamp(max=0.5) * weights).mean()
    torch.testing.assert_close(under_fitting_cross_entropy(logits, mask, 'clamp', 0.9, 0.5, weights).detach(), expected)


def test_module() -> None:
    logits, mask = torch.randn(2, 3, 4, 5), torch.randint(3, (2, 4, 5))
    loss = MODELS.build(dict(type='UnderFittingCrossEntropyLoss', form='none', class_weight=[1, 2, 3], loss_weight=0.4))
    assert loss.loss_name == 'loss_ce'
    weighted = F.cross_entropy(logits, mask, torch.tensor([1.0, 2, 3]), reduction='none').mean()
    torch.testing.assert_close(loss(logits, mask), 0.4 * weighted)
    assert loss(logits.half(), mask).dtype == torch.float32
    torch.testing.assert_close(
        loss(logits, mask.where(mask > 0, 9), ignore_index=9), loss(logits, mask.where(mask > 0, 255))
    )
    with pytest.raises(ValueError, match=r"form has to be one of .*'clamp'.*, got 'cut'"):
        UnderFittingCrossEntropyLoss('cut')


@pytest.mark.parametrize('beta', [0.1, 5.0])
def test_loss_of_a_decode_head(beta: float) -> None:
    head = MMSEG_MODELS.build(
        dict(
            type='FCNHead',
            in_channels=4,
            channels=4,
            num_classes=3,
            num_convs=1,
            concat_input=False,
            in_index=0,
            norm_cfg=dict(type='BN'),
            loss_decode=dict(type='UnderFittingCrossEntropyLoss', beta=beta, k=0.3, loss_weight=0.4),
        )
    )
    head.eval()
    mask = torch.randint(3, (2, 8, 8))
    mask[:, :2] = 255
    samples = [SegDataSample(gt_sem_seg=PixelData(data=one[None])) for one in mask]
    features = [torch.randn(2, 4, 8, 8)]
    losses = head.loss(features, samples, None)
    logits = head(features)
    expected = 0.4 * under_fitting_cross_entropy(logits, mask, 'clamp', beta, 0.3)
    torch.testing.assert_close(losses['loss_ce'], expected)
    if beta > 1:
        assert losses['loss_ce'] <= 0.4 * 0.3
    else:
        assert losses['loss_ce'] > 0.4 * 0.3
    losses['loss_ce'].backward()
