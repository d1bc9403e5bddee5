"""Pixels of a mask that should not be learnt."""

from __future__ import annotations

import torch
from torch import Tensor


def decision_confidence(maps: Tensor, mask: Tensor, has_background: bool) -> Tensor:
    """Score (B, H, W) of the class that ``mask`` names at each pixel.

    Args:
        maps: (B, C, H, W) scores in [0, 1].
        mask: (B, H, W) int64 of class indices; other values, such as the ignore index, get the best score.
        has_background: whether channel 0 of ``maps`` is the background. Without it a background pixel has the
            confidence 1 - best foreground score.
    """
    if not has_background:
        maps = torch.cat((1 - maps.amax(dim=1, keepdim=True), maps), dim=1)
    known = (mask >= 0) & (mask < maps.shape[1])
    score = maps.gather(1, torch.where(known, mask, 0)[:, None])[:, 0]
    return torch.where(known, score, maps.amax(dim=1))


def ignore_uncertain(mask: Tensor, confidence: Tensor, threshold: float, ignore_index: int = 255) -> Tensor:
    """Set ``mask`` (B, H, W) to ``ignore_index`` where ``confidence`` (B, H, W) is below ``threshold``."""
    return torch.where(confidence < threshold, ignore_index, mask)


def inside_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels (B, H, W) bool inside ``boxes`` (B, 4) of top, bottom, left, right, ends exclusive.

    Negative numbers count from the end like in a slice, so [0, -1, 0, -1] leaves out the last row and column, as the
    evaluation of CoSA does.
    """
    # Sides as numbers, not as a tensor, which would be copied to the device while the host waits.
    top, bottom, left, right = (
        torch.where(edge < 0, edge + size[axis], edge)[:, None, None]
        for edge, axis in zip(boxes.long().unbind(dim=1), (0, 0, 1, 1))
    )
    y = torch.arange(size[0], device=boxes.device)[:, None]
    x = torch.arange(size[1], device=boxes.device)
    return (y >= top) & (y < bottom) & (x >= left) & (x < right)


def ignore_outside_boxes(mask: Tensor, boxes: Tensor, ignore_index: int = 255) -> Tensor:
    """Set ``mask`` (B, H, W) to ``ignore_index`` outside ``boxes`` (B, 4); see :func:`inside_boxes`."""
    return torch.where(inside_boxes(boxes.to(mask.device), mask.shape[-2:]), mask, ignore_index)
