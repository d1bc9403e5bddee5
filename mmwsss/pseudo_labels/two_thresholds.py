"""Masks from two thresholds with an ignore band between them (CoSA)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mmwsss.ops import RESIZERS, present_channels
from mmwsss.refiners.base import Refiner

from .background import constant_background
from .normalize import as_single

_half_pixel = RESIZERS['half_pixel']


def ignore_between(high_mask: Tensor, low_mask: Tensor, ignore_index: int = 255) -> Tensor:
    """Foreground of ``high_mask``, background where ``low_mask`` has it too, and ``ignore_index`` between.

    Args:
        high_mask, low_mask: (..., H, W) int64 masks of the high and of the low threshold.
    """
    band = torch.where(low_mask != 0, ignore_index, 0)
    return torch.where(high_mask != 0, high_mask, band)


def scores_to_banded_mask(
    scores: Tensor, mask: Tensor, high: float | Tensor, low: float | Tensor, ignore_index: int = 255
) -> Tensor:
    """Ignore pixels of ``mask`` (..., H, W) whose best score is in (low, high], make those at ``low`` background.

    The plain form of two thresholds, without softmax and resizing.

    Args:
        scores: (..., H, W) best foreground score of each pixel.
    """
    banded = torch.where(scores <= high, ignore_index, mask)
    return torch.where(scores <= low, 0, banded)


def softmax_against_threshold(maps: Tensor, threshold: float | Tensor, present: Tensor | None = None) -> Tensor:
    """Softmax over the present classes of ``maps`` (B, K, h, w) and a background of ``threshold`` before them.

    Args:
        present: (B, K + 1) bool over the channels of the result; None for all.

    Returns:
        (B, K + 1, h, w), 0 for absent classes.
    """
    logits = constant_background(maps, threshold)
    if present is not None:
        logits = logits.masked_fill(~present[:, :, None, None], float('-inf'))
    return logits.softmax(dim=1)


def two_threshold_mask(
    maps: Tensor,
    high: float | Tensor,
    low: float | Tensor,
    labels: Tensor | None = None,
    down_scale: int = 2,
    images: Tensor | None = None,
    refiner: Refiner | None = None,
    ignore_index: int = 255,
) -> Tensor:
    """Foreground above ``high``, background below ``low``, ignored between (CoSA, CAM pseudo labels).

    For each threshold: shrink the maps by ``down_scale``, softmax over the present classes and a background of that
    threshold, refine if asked, enlarge again bilinearly, argmax.

    Args:
        maps: (B, K, H, W) scores in [0, 1] of the foreground classes.
        high, low: thresholds, numbers or tensors of one element.
        labels: (B, K) multi-hot image labels; absent classes get no pixel. None for all.
        down_scale: whole divisor of both sides; 0 or 1 for none.
        images: (B, 3, H, W) RGB, needed by the refiner; resized to the small maps.
        refiner: refiner of the small probabilities. Where it has a method ``affinity``, the affinity is computed once
            for both thresholds.

    Returns:
        (B, H, W) int64.
    """
    maps = as_single(maps)
    size = maps.shape[-2:]
    small = tuple(max(side // max(down_scale, 1), 1) for side in size)
    present = None if labels is None else present_channels(labels, maps.shape[1] + 1)
    shrunk = _half_pixel(maps, small)
    refine = _refinement(refiner, images, labels, small)
    # max names the first of equal channels as argmax does, which is 20 times slower over channels on a CPU.
    high_mask, low_mask = (
        _half_pixel(refine(softmax_against_threshold(shrunk, threshold, present)), size).max(dim=1).indices
        for threshold in (high, low)
    )
    return ignore_between(high_mask, low_mask, ignore_index)


def _refinement(
    refiner: Refiner | None, images: Tensor | None, labels: Tensor | None, size: tuple[int, int]
) -> Callable[[Tensor], Tensor]:
    """The refiner as a function of maps alone, with what depends on the images computed once."""
    if refiner is None:
        return lambda maps: maps
    if images is None:
        raise ValueError(f'{type(refiner).__name__} between two thresholds needs images, got none')
    images = _half_pixel(as_single(images), size)
    shared = {'affinity': refiner.affinity(images)} if hasattr(refiner, 'affinity') else {}
    return lambda maps: refiner(images, maps, labels, **shared)
