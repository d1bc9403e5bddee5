"""Maps of pixels as maps of square grid cells, and back."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pool_to_cells(maps: Tensor, stride: int) -> Tensor:
    """Mean of ``maps`` (B, C, H, W) over cells of ``stride`` pixels; beyond the border of an image the maps are 0."""
    height, width = maps.shape[-2:]
    return F.avg_pool2d(F.pad(maps, (0, -width % stride, 0, -height % stride)), stride)


def spread_cells(scores: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """Scores (B, C, h, w) of cells as maps of ``size`` (H, W), bilinear; the inverse of :func:`pool_to_cells`."""
    return F.interpolate(scores, scale_factor=stride, mode='bilinear')[..., : size[0], : size[1]]
