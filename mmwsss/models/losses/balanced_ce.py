"""Cross entropy of pixels in which background and foreground are averaged apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmwsss.registry import MODELS


def balanced_nll(
    log_probabilities: Tensor,
    mask: Tensor,
    fg_weight: float | None = 0.5,
    weights: Tensor | None = None,
    ignore_index: int = 255,
    eps: float = 1e-6,
) -> Tensor:
    """(1 - fg_weight) * mean over background pixels + fg_weight * mean over foreground pixels (CoSA, L_c2s).

    Both means run over all such pixels of the batch, not image by image.

    Args:
        log_probabilities: (B, C, H, W) log-softmax with the background in channel 0.
        mask: (B, H, W) int64 of class indices, 0 for background.
        fg_weight: share of the foreground in [0, 1]; None takes one mean over all pixels that are not ignored.
        weights: (B, H, W) factors of the pixels, no gradient flows into them. The means still divide by the number
            of pixels, not by the sum of the weights.
        ignore_index: value in ``mask`` of pixels that take no part.
        eps: added to the numbers of pixels, so that a part without pixels contributes 0.

    Returns:
        scalar.
    """
    valid = mask != ignore_index
    nll = -log_probabilities.gather(1, torch.where(valid, mask, 0)[:, None])[:, 0]
    shares = _pixel_shares(mask, fg_weight, ignore_index, eps, nll.dtype)
    if weights is not None:
        shares = shares * weights.detach()
    # An ignored pixel may have an infinite entropy for class 0, and 0 * inf is nan.
    return (torch.where(valid, nll, 0) * shares).sum()


def balanced_cross_entropy(
    logits: Tensor,
    mask: Tensor,
    fg_weight: float | None = 0.5,
    weights: Tensor | None = None,
    ignore_index: int = 255,
    eps: float = 1e-6,
) -> Tensor:
    """:func:`balanced_nll` of the log-softmax of ``logits`` (B, C, H, W)."""
    return balanced_nll(logits.log_softmax(dim=1), mask, fg_weight, weights, ignore_index, eps)


def soft_cross_entropy(logits: Tensor, target: Tensor, fg_weight: float | None = 0.5, eps: float = 1e-6) -> Tensor:
    """Cross entropy of ``logits`` (B, C, H, W) against soft labels ``target`` (B, C, H, W), averaged in two parts.

    The best class of the target decides whether a pixel counts as background or foreground; see :func:`balanced_nll`
    for the means. No gradient flows into the target.
    """
    target = target.detach()
    entropy = -(target * logits.log_softmax(dim=1)).sum(dim=1)
    # No channel has the index -1, so nothing is ignored.
    return (entropy * _pixel_shares(target.argmax(dim=1), fg_weight, -1, eps, entropy.dtype)).sum()


def balanced_nll_of_masks(
    logits: Tensor,
    masks: Sequence[Tensor],
    fg_weight: float | None = 0.5,
    weights: Sequence[Tensor | None] | None = None,
    ignore_index: int = 255,
    eps: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """:func:`balanced_nll` of each of N ``masks`` and the probabilities, from one softmax of full-size logits.

    Values and gradients are those of separate calls; memory and time are about those of one softmax, since the gradient
    of all parts is written at once.

    Args:
        logits: (B, C, H, W) float32 or float64.
        masks: N of (B, H, W) int64.
        weights: None, or for each mask (B, H, W) factors or None.

    Returns:
        losses (N,) and softmax probabilities (B, C, H, W), both differentiable once.
    """
    stacked = torch.stack(tuple(masks))
    weights = weights or [None] * len(stacked)
    shares = torch.stack([_pixel_shares(mask, fg_weight, ignore_index, eps, logits.dtype) for mask in stacked])
    for share, weight in zip(shares, weights):
        if weight is not None:
            share *= weight.detach()
    return _SharedSoftmax.apply(logits, torch.where(stacked == ignore_index, 0, stacked), shares)


class _SharedSoftmax(torch.autograd.Function):
    """Sums of share * negative log-likelihood over pixels for N masks, and the probabilities."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, masks: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        log_probabilities = logits.log_softmax(dim=1)
        nll = torch.stack([-log_probabilities.gather(1, mask[:, None])[:, 0] for mask in masks])
        # A pixel without a share may have an infinite entropy, and 0 * inf is nan.
        losses = (torch.where(shares > 0, nll, 0) * shares).sum(dim=(1, 2, 3))
        probabilities = log_probabilities.exp_()
        ctx.save_for_backward(probabilities, masks, shares)
        ctx.set_materialize_grads(False)
        return losses, probabilities

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_losses: Tensor | None, grad_probabilities: Tensor | None) -> tuple[Tensor | None, ...]:
        probabilities, masks, shares = ctx.saved_tensors
        pull = probabilities.new_zeros(shares.shape[1:])
        if grad_losses is not None:
            shares = shares * grad_losses[:, None, None, None]
            pull = shares.sum(dim=0)
        if grad_probabilities is None:
            grad = probabilities * pull[:, None]
        else:
            inner = torch.linalg.vecdot(probabilities, grad_probabilities, dim=1)
            grad = grad_probabilities + (pull - inner)[:, None]
            grad *= probabilities
        if grad_losses is not None:
            for mask, share in zip(masks, shares):
                grad.scatter_add_(1, mask[:, None], -share[:, None])
        return grad, None, None


def _pixel_shares(mask: Tensor, fg_weight: float | None, ignore_index: int, eps: float, dtype: torch.dtype) -> Tensor:
    """Factor (B, H, W) of each pixel in the sum over the batch, 0 where ``mask`` is ignored."""
    valid = mask != ignore_index
    if fg_weight is None:
        return valid.to(dtype) / (valid.sum().to(dtype) + eps)
    background, foreground = valid & (mask == 0), valid & (mask != 0)
    parts = ((background, 1 - fg_weight), (foreground, fg_weight))
    return sum(part * (weight / (part.sum().to(dtype) + eps)) for part, weight in parts)


@MODELS.register_module()
class BalancedCELoss(nn.Module):
    """Balanced cross entropy of log-probabilities; see :func:`balanced_nll`.

    It takes log-probabilities rather than logits, so that two masks and the energy loss can share one log-softmax of
    full-size logits.
    """

    def __init__(self, fg_weight: float | None = 0.5, ignore_index: int = 255, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.fg_weight = fg_weight
        self.ignore_index = ignore_index
        self.loss_weight = loss_weight

    def of_masks(
        self, logits: Tensor, masks: Sequence[Tensor], weights: Sequence[Tensor | None] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Losses (N,) of logits (B, C, H, W) for N masks, and probabilities; see :func:`balanced_nll_of_masks`."""
        losses, probabilities = balanced_nll_of_masks(logits.float(), masks, self.fg_weight, weights, self.ignore_index)
        return self.loss_weight * losses, probabilities

    def forward(self, log_probabilities: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
        loss = balanced_nll(log_probabilities.float(), mask, self.fg_weight, weights, self.ignore_index)
        return self.loss_weight * loss
