"""Resizing rules of the official implementations that torch does not offer under one name.

All of them are separable, so each rule is a matrix ``(n_out, n_in)`` per axis and resizing is two matrix products.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_align_corners(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``x`` (B, C, H, W) bilinearly to ``size`` so that the corner pixels' centres coincide."""
    return F.interpolate(x, size=tuple(size), mode='bilinear', align_corners=True)


def resize_nearest_align_corners(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a label map (..., H, W) of any dtype by the nearest rule of TensorFlow with aligned corners.

    Output row o reads input row ``floor(o * (n_in - 1) / (n_out - 1) + 0.5)``, computed in float32 like there.
    """
    rows, cols = (_nearest_index(n_in, n_out).to(x.device) for n_in, n_out in zip(x.shape[-2:], size))
    return x.index_select(-2, rows).index_select(-1, cols)


def _nearest_index(n_in: int, n_out: int) -> Tensor:
    scale = torch.tensor((n_in - 1) / (n_out - 1) if n_out > 1 else n_in / n_out, dtype=torch.float32)
    index = torch.floor(torch.arange(n_out, dtype=torch.float32) * scale + 0.5)
    return index.long().clamp(max=n_in - 1)


def resize_matrices(x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """Resize ``x`` (..., H, W) with one matrix per axis, ``rows`` (h, H) and ``cols`` (w, W)."""
    with torch.autocast(x.device.type, enabled=False):  # the products would round float32 input to half precision
        return rows.to(x) @ x @ cols.to(x).transpose(-1, -2)


def tf_bicubic_matrix(n_in: int, n_out: int) -> Tensor:
    """Bicubic rule of TensorFlow 2 as a float32 matrix (n_out, n_in).

    Keys' kernel with a = -0.5, half-pixel centres, offsets rounded to 1/1024, taps outside the input dropped and the
    remaining weights renormalised; no antialiasing. ``torch`` uses a = -0.75 and repeats the border instead, which
    differs by up to 0.37 on unit-normal embeddings.
    """
    centre = (torch.arange(n_out, dtype=torch.float64) + 0.5) * n_in / n_out - 0.5
    base = torch.floor(centre)
    offset = torch.round((centre - base) * 1024) / 1024
    taps = base[:, None] + torch.arange(-1, 3)
    distance = torch.stack([1 + offset, offset, 1 - offset, 2 - offset], dim=1)
    weights = _keys_kernel(distance, a=-0.5) * ((taps >= 0) & (taps < n_in))
    weights = weights / weights.sum(dim=1, keepdim=True)
    matrix = torch.zeros(n_out, n_in, dtype=torch.float64)
    matrix.scatter_add_(1, taps.clamp(0, n_in - 1).long(), weights)
    return matrix.float()


def _keys_kernel(distance: Tensor, a: float) -> Tensor:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))


def resize_mirror(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``x`` (..., H, W) linearly with half-pixel centres and a mirrored border, as scikit-image does.

    An axis that shrinks is smoothed first, as ``skimage.transform.resize`` does by default.
    """
    rows, cols = (halfpixel_matrix(n_in, n_out) for n_in, n_out in zip(x.shape[-2:], size))
    return resize_matrices(x, rows, cols)


def halfpixel_matrix(n_in: int, n_out: int) -> Tensor:
    """Linear half-pixel rule with mirrored border as float32 matrix (n_out, n_in); Gaussian-smoothed if it shrinks."""
    centre = (torch.arange(n_out, dtype=torch.float64) + 0.5) * n_in / n_out - 0.5
    base = torch.floor(centre)
    offset = centre - base
    matrix = torch.zeros(n_out, n_in, dtype=torch.float64)
    for tap, weight in ((base, 1 - offset), (base + 1, offset)):
        matrix.scatter_add_(1, _mirror(tap.long(), n_in)[:, None], weight[:, None])
    if n_out < n_in:
        matrix = matrix @ _gaussian_matrix(n_in, sigma=(n_in / n_out - 1) / 2)
    return matrix.float()


def _mirror(index: Tensor, n: int) -> Tensor:
    """Reflect indices into [0, n) about the centres of the border pixels."""
    if n == 1:
        return torch.zeros_like(index)
    index = index.abs() % (2 * (n - 1))
    return torch.minimum(index, 2 * (n - 1) - index)


def _gaussian_matrix(n: int, sigma: float, truncate: float = 4.0) -> Tensor:
    radius = int(truncate * sigma + 0.5)
    shift = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (shift.double() / sigma) ** 2)
    weights = weights / weights.sum()
    taps = _mirror(torch.arange(n)[:, None] + shift, n)
    return torch.zeros(n, n, dtype=torch.float64).scatter_add_(1, taps, weights.expand_as(taps).contiguous())


# Rules for the size of maps by name, each called as rule(maps (B, C, h, w), (H, W)).
RESIZERS = {
    'align_corners': resize_align_corners,
    'half_pixel': partial(F.interpolate, mode='bilinear', align_corners=False),
    'skimage': resize_mirror,
}
