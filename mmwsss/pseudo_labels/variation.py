"""Smoothing of maps by their coefficient of variation (PMM)."""

from __future__ import annotations

import torch
from torch import Tensor

from .normalize import as_single, divide_no_nan


def coefficient_of_variation(maps: Tensor, threshold: float = 0.05) -> Tensor:
    """Deviation divided by mean of the values above ``threshold`` of each map of ``maps`` (..., h, w).

    Returns:
        (..., 1, 1) float32 or float64, 0 where no value is above the threshold.
    """
    chosen = maps > threshold  # in the dtype of the maps: float16(0.05) is below the float32 number
    maps = as_single(maps)
    count = chosen.sum(dim=(-2, -1), keepdim=True)
    mean = divide_no_nan((maps * chosen).sum(dim=(-2, -1), keepdim=True), count)
    variance = divide_no_nan((((maps - mean) ** 2) * chosen).sum(dim=(-2, -1), keepdim=True), count)
    return divide_no_nan(variance.sqrt(), mean)


def smooth_variation(maps: Tensor, threshold: float = 0.05, scale: float = 0.3) -> Tensor:
    """Raise each map to the power 1 - scale * coefficient of variation, after values below ``threshold`` became 0.

    An uneven map, where a small part outshines the rest of the object, is lifted more than an even one (PMM, CVS).

    Args:
        maps: (..., h, w) in [0, 1]; half precision is computed and returned as float32.

    Returns:
        (..., h, w).
    """
    # Below 0, which takes a threshold near 0, the smallest scores would become the largest.
    exponent = (1 - scale * coefficient_of_variation(maps, threshold)).clamp(min=0)
    low = (maps < threshold) | (maps == 0)
    maps = as_single(maps)
    return torch.where(low, 0, torch.where(low, 1, maps) ** exponent)
