"""Where the foreground ends: from maps to masks at a background setting."""

from __future__ import annotations

from torch import Tensor


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
