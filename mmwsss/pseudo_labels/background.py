"""Where the foreground ends: a background channel, and masks at a background setting."""

from __future__ import annotations

import torch
from torch import Tensor

from .normalize import as_single


def maps_to_mask(maps: Tensor, bg_setting: float, has_background: bool) -> Tensor:
    """Decide each pixel of ``maps`` (..., C, H, W) for its best foreground class or for the background.

    Args:
        bg_setting: without a background channel the threshold that the best foreground score has to exceed; with one
            the factor on the background score that it has to exceed, so 1 is the plain argmax.
        has_background: whether channel 0 is the background.

    Returns:
        (..., H, W) int64, 0 for background and c for the c-th foreground class.
    """
    foreground = maps[..., 1:, :, :] if has_background else maps
    score, index = foreground.max(dim=-3)
    limit = bg_setting * maps[..., 0, :, :] if has_background else bg_setting
    return (index + 1) * (score > limit)


def constant_background(maps: Tensor, threshold: float | Tensor) -> Tensor:
    """Put a background of ``threshold`` everywhere before the channels of ``maps`` (B, K, h, w); (B, K + 1, h, w)."""
    background = torch.zeros_like(maps[:, :1]) + threshold
    return torch.cat((background, maps), dim=1)


def power_background(maps: Tensor, power: float) -> Tensor:
    """Put the background (1 - best foreground score)^power before the channels of ``maps`` (B, K, h, w) in [0, 1].

    PSA, ACR and PMM sharpen or widen their objects by the power. Half precision becomes float32, since the power
    underflows there.

    Returns:
        (B, K + 1, h, w).
    """
    maps = as_single(maps)
    background = (1 - maps.amax(dim=1, keepdim=True)).clamp(min=0) ** power
    return torch.cat((background, maps), dim=1)
