"""Normalisation of localization maps."""

from __future__ import annotations

import torch
from torch import Tensor


def divide_no_nan(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide elementwise with x / 0 = 0, in values and in gradients."""
    zero = denominator == 0
    return torch.where(zero, 0, numerator / torch.where(zero, 1, denominator))


def peak_normalize(maps: Tensor) -> Tensor:
    """Scale every non-negative map of ``maps`` (B, C, h, w) so that its maximum is 1; an empty map stays 0."""
    return divide_no_nan(maps, maps.amax(dim=(-2, -1), keepdim=True))


def mask_maps_with_labels(maps: Tensor, labels: Tensor) -> Tensor:
    """Keep the maps of present classes, bring each to peak 1 and make every patch a distribution (ViT-PCM, sec. 3).

    Args:
        maps: (B, C, h, w) softmax scores, background channel included.
        labels: (B, C) multi-hot image labels over the same channels.

    Returns:
        (B, C, h, w), zero for absent classes; the channels of a patch sum to 1, or to 0 where all present scores are 0.
    """
    present = peak_normalize(maps * labels[:, :, None, None])
    return divide_no_nan(present, present.sum(dim=1, keepdim=True))
