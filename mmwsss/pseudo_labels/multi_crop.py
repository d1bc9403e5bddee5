"""Inference on crops of several scales, all brought to one size (PMM, sec. 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmwsss.ops.channels import present_channels

from .normalize import divide_no_nan
from .views import half_pixel, run_in_batches

INNER_CROPS = ('stride', 'crop_size')


def crop_boxes(
    size: tuple[int, int], scale: float, crop_size: int = 448, stride: int = 300, inner_crop: str = 'stride'
) -> Tensor:
    """Boxes that cover an image seen at ``scale`` with crops of ``crop_size`` every ``stride`` pixels.

    Args:
        size: (H, W) of the image.
        inner_crop: width of all crops of an axis but the last. The official code makes them as wide as the ``stride``,
            so that they do not overlap; 'crop_size' makes them as wide as the last one.

    Returns:
        (N, 4) int64 rows of top, bottom, left, right in pixels of the unscaled image, column of crops by column.

    Raises:
        ValueError: unknown ``inner_crop``, or a scale that is not positive.
    """
    if inner_crop not in INNER_CROPS:
        raise ValueError(f'inner_crop has to be one of {INNER_CROPS}, got {inner_crop!r}')
    if scale <= 0:
        raise ValueError(f'scales have to be positive, got {scale}')
    width = stride if inner_crop == 'stride' else crop_size
    rows, columns = (_intervals(side, scale, crop_size, stride, width) for side in size)
    return torch.tensor([(*row, *column) for column in columns for row in rows])


def multi_crop_boxes(
    size: tuple[int, int],
    scales: Sequence[float],
    crop_size: int = 448,
    stride: int = 300,
    inner_crop: str = 'stride',
) -> tuple[Tensor, list[int]]:
    """Boxes (N, 4) of :func:`crop_boxes` for all ``scales`` one after the other, and how many each scale has."""
    boxes = [crop_boxes(size, scale, crop_size, stride, inner_crop) for scale in scales]
    return torch.cat(boxes), [len(part) for part in boxes]


def crop_views(image: Tensor, boxes: Tensor, crop_size: int) -> Tensor:
    """Cut ``boxes`` (N, 4) out of ``image`` (3, H, W) uint8 on the CPU and resize each to a square.

    The resizing is Pillow's bilinear one, which smooths where it shrinks.

    Returns:
        (N, 3, crop_size, crop_size) uint8.
    """
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    crops = [
        picture.crop((left, top, right, bottom)).resize((crop_size, crop_size), Image.Resampling.BILINEAR)
        for top, bottom, left, right in boxes.tolist()
    ]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


def multi_crop_maps(
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    boxes: Tensor,
    crop_size: int = 448,
    *,
    labels: Tensor | None = None,
    flip: bool = True,
    max_batch: int = 16,
    resize: Callable[[Tensor, tuple[int, int]], Tensor] = half_pixel,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Mean of a network's maps over all crops that cover a pixel.

    Args:
        network: takes crops (N, 3, crop_size, crop_size) uint8 RGB and returns maps (N, C, h, w).
        image: (3, H, W) uint8 RGB on the CPU.
        boxes: (M, 4) top, bottom, left, right, see :func:`multi_crop_boxes`.
        labels: (K,) multi-hot image labels; maps of absent classes become 0. C is K, or K + 1 with the background in
            channel 0.
        flip: whether the horizontal flip of each crop is run as well.
        max_batch: most crops in one call of the network.
        resize: function of (maps, size) that brings the maps of a crop to the size of its box.
        dtype: of the result; official PMM stores float16 after its normalisation.

    Returns:
        (C, H, W), 0 where no box covers a pixel.

    Raises:
        ValueError: no box, or ``max_batch`` below 1.
    """
    if len(boxes) == 0:
        raise ValueError('no boxes to crop; give at least one scale')
    if max_batch < 1:
        raise ValueError(f'max_batch has to be at least 1, got {max_batch}')
    total, coverage = None, torch.zeros(image.shape[-2:])
    per_batch = max(max_batch // (1 + flip), 1)
    for part in boxes.split(per_batch):
        maps = _crop_maps(network, crop_views(image, part, crop_size), flip, max_batch).float()
        if total is None:
            total = maps.new_zeros(maps.shape[1], *image.shape[-2:])
        for crop, (top, bottom, left, right) in zip(maps, part.tolist()):
            total[:, top:bottom, left:right] += resize(crop[None], (bottom - top, right - left))[0]
            coverage[top:bottom, left:right] += 1
    mean = divide_no_nan(total, coverage.to(total.device))
    if labels is not None:
        mean = mean * present_channels(labels[None], len(mean)).to(mean)[0, :, None, None]
    return mean.to(dtype)


def _crop_maps(network: Callable[[Tensor], Tensor], crops: Tensor, flip: bool, max_batch: int) -> Tensor:
    """Maps of ``crops``, averaged with those of their flips."""
    if not flip:
        return run_in_batches(network, crops, max_batch)
    maps = run_in_batches(network, torch.cat((crops, crops.flip(-1))), max_batch)
    plain, flipped = maps.unflatten(0, (2, -1))
    return (plain + flipped.flip(-1)) / 2


def _intervals(side: int, scale: float, crop_size: int, stride: int, width: int) -> list[tuple[int, int]]:
    """Begin and end of the crops along one axis of ``side`` pixels."""
    scaled = int(side * scale)
    last = math.ceil(max(0, scaled - crop_size) / stride)
    crops = [(stride * i, min(scaled, stride * i + width)) for i in range(last)]
    crops.append((max(0, scaled - crop_size), scaled))
    return [(int(begin / scale), int(end / scale)) for begin, end in crops]
