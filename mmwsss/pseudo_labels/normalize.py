"""Normalisation of localization maps."""

from __future__ import annotations

import torch
from torch import Tensor


def divide_no_nan(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide elementwise with x / 0 = 0, in values and in gradients."""
    zero = denominator == 0
    return torch.where(zero, 0, numerator / torch.where(zero, 1, denominator))


def as_single(maps: Tensor) -> Tensor:
    """``maps`` in float32 where they are half precision or whole numbers, unchanged in float32 and float64."""
    return maps if maps.dtype in (torch.float32, torch.float64) else maps.float()


def keep_channels(maps: Tensor, present: Tensor | None) -> Tensor:
    """Set the channels of ``maps`` (B, C, h, w) to 0 where ``present`` (B, C) bool is False; None keeps all."""
    return maps if present is None else torch.where(present[:, :, None, None], maps, 0)


def peak_normalize(maps: Tensor) -> Tensor:
    """Scale every non-negative map of ``maps`` (B, C, h, w) so that its maximum is 1; an empty map stays 0."""
    return divide_no_nan(maps, maps.amax(dim=(-2, -1), keepdim=True))


def min_max_normalize(maps: Tensor, eps: float = 1e-5, cut: float = 0.0, shift: float = 0.0) -> Tensor:
    """Bring every map to (map - min - shift) / (max - min + eps), after values below min + cut became 0.

    CoSA uses the defaults, ACR ``eps=1e-6``, PMM ``cut=1e-5`` for many crops (float16 files follow) and
    ``cut=shift=1e-5`` for many scales. ``cut`` is for maps that are not negative; the result is slightly negative where
    the minimum is positive.

    Args:
        maps: (..., h, w) of any float dtype; half precision is computed and returned as float32.

    Returns:
        (..., h, w); a constant map is 0 with the defaults.
    """
    maps = as_single(maps)
    low = maps.amin(dim=(-2, -1), keepdim=True)
    span = maps.amax(dim=(-2, -1), keepdim=True) - low + eps
    kept = torch.where(maps < low + cut, 0, maps) if cut else maps
    return (kept - low - shift) / span


def to_distribution(maps: Tensor) -> Tensor:
    """Divide non-negative ``maps`` (B, C, h, w) by their sum over channels; a pixel of zeros stays zero."""
    return divide_no_nan(maps, maps.sum(dim=1, keepdim=True))


def mask_maps_with_labels(maps: Tensor, labels: Tensor) -> Tensor:
    """Keep the maps of present classes, bring each to peak 1 and make every patch a distribution (ViT-PCM, sec. 3).

    Args:
        maps: (B, C, h, w) softmax scores, background channel included.
        labels: (B, C) multi-hot image labels over the same channels.

    Returns:
        (B, C, h, w), zero for absent classes; the channels of a patch sum to 1, or to 0 where all present scores are 0.
    """
    return to_distribution(peak_normalize(maps * labels[:, :, None, None]))
