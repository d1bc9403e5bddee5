"""Contrast between the confident patches of a class and those that are confidently of another one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmwsss.registry import MODELS

from .directions import unit_directions

SMALLEST_NORM = 1e-8  # of embeddings; below, their cosine is 0


class PatchPairs(NamedTuple):
    """Patch contrastive error before it is averaged, one entry for each image and class.

    Args:
        errors: (B, C) mean over positive pairs of 1 - S plus mean over negative pairs of S; a mean over none is 0.
        positive, negative: (B, C) int64 numbers of pairs.
    """

    errors: Tensor
    positive: Tensor
    negative: Tensor


def patch_pairs(embeddings: Tensor, maps: Tensor, high: float, low: float) -> PatchPairs:
    """Contrast of the patches of each class, with the similarity S = (1 + cosine) / 2 (TKP-PCL and APC, L_PCE).

    Positive pairs are two different patches with a score above ``high``, negative ones such a patch and one with a
    score below ``low``. The sum of cosines over all pairs of two sets is the product of the sums of their directions,
    so no matrix of patch pairs is made: the cost is O(h w C D).

    Args:
        embeddings: (B, D, h, w), both patches of a pair take a gradient.
        maps: (B, C, h, w) scores in [0, 1] that choose the patches, without gradient.
        high, low: thresholds.
    """
    scores = maps.detach().flatten(2)
    is_high, is_low = scores > high, scores < low
    n_high, n_low = is_high.sum(dim=2), is_low.sum(dim=2)
    positive, negative = n_high * (n_high - 1) // 2, n_high * n_low
    # Half precision would round the sums over many patches.
    with torch.autocast(embeddings.device.type, enabled=False):
        directions = unit_directions(embeddings, SMALLEST_NORM).transpose(1, 2)
        is_high, is_low = is_high.to(directions), is_low.to(directions)
        highs, lows = is_high @ directions, is_low @ directions
        alone = is_high @ (directions**2).sum(dim=2, keepdim=True)
        together = (highs**2).sum(dim=2) - alone[..., 0]
        apart = (highs * lows).sum(dim=2)
    pull = 0.5 - together / 4 / positive.clamp(min=1)
    push = 0.5 + apart / 2 / negative.clamp(min=1)
    errors = torch.where(positive > 0, pull, 0 * pull) + torch.where(negative > 0, push, 0 * push)
    return PatchPairs(errors, positive, negative)


def patch_contrast_loss(
    embeddings: Tensor,
    maps: Tensor,
    labels: Tensor,
    high: float = 0.85,
    low: float = 0.15,
    include_bg: bool = True,
) -> Tensor:
    """Mean of the errors of :func:`patch_pairs` over the classes present in an image, then over images.

    Args:
        embeddings: (B, D, h, w).
        maps: (B, C, h, w) scores in [0, 1], the background in channel 0.
        labels: (B, C) multi-hot, the background included.
        high, low: thresholds of confident patches.
        include_bg: whether the background counts as a class.

    Returns:
        scalar; exactly 0, with a graph, where no patch is confident.
    """
    present = (labels > 0.5).to(embeddings.dtype if embeddings.dtype == torch.float64 else torch.float32)
    if not include_bg:
        present = torch.cat((torch.zeros_like(present[:, :1]), present[:, 1:]), dim=1)
    errors = patch_pairs(embeddings, maps, high, low).errors
    return ((errors * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)).mean()


@MODELS.register_module()
class PatchContrastLoss(nn.Module):
    """Module form of :func:`patch_contrast_loss` times ``loss_weight``.

    Args:
        high: patches with a larger score are confident of a class.
        low: patches with a smaller score are confident of another one; None for 1 - ``high``.
        include_bg: whether the background counts as a class.
        loss_weight: weight of the loss.

    Raises:
        ValueError: a threshold outside [0, 1], or ``low`` above ``high``.
    """

    def __init__(
        self, high: float = 0.85, low: float | None = None, include_bg: bool = True, loss_weight: float = 0.1
    ) -> None:
        super().__init__()
        low = 1 - high if low is None else low
        if not 0 <= low <= high <= 1:
            raise ValueError(f'PatchContrastLoss needs 0 <= low <= high <= 1, got low={low:g} and high={high:g}')
        self.high, self.low = high, low
        self.include_bg = include_bg
        self.loss_weight = loss_weight

    def forward(self, embeddings: Tensor, maps: Tensor, labels: Tensor) -> Tensor:
        """Loss of ``embeddings`` (B, D, h, w) with ``maps`` (B, C, h, w) and ``labels`` (B, C), background first."""
        return self.loss_weight * patch_contrast_loss(embeddings, maps, labels, self.high, self.low, self.include_bg)
