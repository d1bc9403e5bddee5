"""Masks in which every class decides its own foreground and small objects win overlaps (PMM)."""

from __future__ import annotations

import torch
from torch import Tensor

from mmwsss.refiners.base import Refiner

from .normalize import as_single


def two_label_maps(maps: Tensor, power: float) -> Tensor:
    """Background (1 - map)^power beside each map of ``maps`` (..., h, w) in [0, 1]; returns (..., 2, h, w)."""
    maps = as_single(maps)
    return torch.stack(((1 - maps).clamp(min=0) ** power, maps), dim=-3)


def refine_two_labels(images: Tensor, pairs: Tensor, refiner: Refiner, present: Tensor | None = None) -> Tensor:
    """Refine every class against its own background, all classes of all images in one call of ``refiner``.

    Args:
        images: (B, 3, H, W).
        pairs: (B, K, 2, H, W) of :func:`two_label_maps`.
        present: (B, K) bool, classes to work on; None for all.

    Returns:
        (B, K, H, W) float32 probability of the foreground, 0 for classes that are not present.
    """
    if present is None:
        present = torch.ones(pairs.shape[:2], dtype=torch.bool, device=pairs.device)
    image_of_pair = present.nonzero()[:, 0]
    foreground = pairs.new_zeros(pairs[:, :, 0].shape, dtype=torch.float32)
    if len(image_of_pair):
        foreground[present] = refiner(images[image_of_pair], pairs[present])[:, 1]
    return foreground


def proportional_mask(maps: Tensor, foreground: Tensor) -> Tensor:
    """Give each pixel to the class that has the largest share of its own foreground there (PMM, PPMG).

    The share is the score divided by 1 + the sum of the scores over the foreground of that class, so of two
    overlapping objects the smaller one is in front.

    Args:
        maps: (B, K, H, W) scores in [0, 1], not smoothed.
        foreground: (B, K, H, W) bool, the foreground that each class claims.

    Returns:
        (B, H, W) int64, 0 for pixels that no class claims and c for the c-th class.
    """
    maps = torch.where(foreground, as_single(maps), 0)
    share, index = (maps / (1 + maps.sum(dim=(-2, -1), keepdim=True))).max(dim=1)
    return (index + 1) * (share > 0)
