"""Geometric records of two views and the operations that replay, undo and tile them (ViT-PCM).

A record is one row ``[fliplr, flipud, transpose, y1, x1, y2, x2, resize_h, resize_w]`` in pixels, zeros where a step
was not taken. It is applied in the order crop, resize, left-right flip, up-down flip, transpose. Records stay on the
CPU, where they come from, so that branching on them never waits for an accelerator.
"""

from __future__ import annotations

import torch
from torch import Tensor

FLIP_LR, FLIP_UD, TRANSPOSE = 0, 1, 2
BOX = slice(3, 7)
SIZE = slice(7, 9)
RECORD_LENGTH = 9


def patch_level_records(records: Tensor, patch_size: int) -> Tensor:
    """Express the boxes and sizes of ``records`` (B, 9) in whole patches of ``patch_size`` pixels."""
    scaled = records.clone()
    scaled[:, 3:] = torch.div(records[:, 3:], patch_size, rounding_mode='floor')
    return scaled


def apply_flips(x: Tensor, records: Tensor) -> Tensor:
    """Flip and transpose each item of ``x`` (B, C, H, W) as its record says.

    Raises:
        ValueError: items of one rectangular batch disagree about the transpose, so their shapes would differ.
    """
    x = _where(records[:, FLIP_LR], x.flip(-1), x)
    x = _where(records[:, FLIP_UD], x.flip(-2), x)
    return _transpose(x, records[:, TRANSPOSE])


def undo_flips(x: Tensor, records: Tensor) -> Tensor:
    """Undo the flips and the transpose of ``records`` (B, 9) on ``x`` (B, C, H, W), in reverse order."""
    x = _transpose(x, records[:, TRANSPOSE])
    x = _where(records[:, FLIP_UD], x.flip(-2), x)
    return _where(records[:, FLIP_LR], x.flip(-1), x)


def apply_record(x: Tensor, records: Tensor) -> Tensor:
    """Crop, resize, flip and transpose each item of ``x`` (B, C, H, W) as its record (B, 9) says.

    Every item of the batch has to end with the same size, which holds for records of one augmentation.

    Raises:
        ValueError: the records of the batch lead to different sizes.
    """
    if (records[:, 3:] != 0).any():
        x = crop_and_resize(x, records[:, BOX], _common_size(x, records))
    return apply_flips(x, records)


def crop_and_resize(x: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample one box per item of ``x`` (B, C, H, W) bilinearly to ``size``, corners aligned to the box.

    ``boxes`` (B, 4) hold ``y1, x1, y2, x2`` with exclusive ends; an all-zero box stands for the whole item. Nothing
    outside a box leaks in: each axis is a matrix of hat functions centred on the sampling points.
    """
    height, width = x.shape[-2:]
    boxes = boxes.to(torch.float32)
    whole = boxes.new_tensor([0, 0, height, width])
    boxes = torch.where((boxes == 0).all(dim=1, keepdim=True), whole, boxes)
    rows = _hat_matrix(boxes[:, 0], boxes[:, 2], height, size[0]).to(x, non_blocking=True)
    cols = _hat_matrix(boxes[:, 1], boxes[:, 3], width, size[1]).to(x, non_blocking=True)
    with torch.autocast(x.device.type, enabled=False):  # the product would round float32 maps to half precision
        return torch.einsum('bip,bcpq,bjq->bcij', rows, x, cols)


def tile_views(views: Tensor, grid: int = 2) -> Tensor:
    """Tile each ``grid**2`` consecutive views (B, C, h, w) row-major into one image (B / grid**2, C, grid*h, grid*w).

    Raises:
        ValueError: B is not a multiple of ``grid**2``.
    """
    batch, channels, height, width = views.shape
    if batch % grid**2:
        raise ValueError(
            f'a mosaic takes a batch that is a multiple of {grid**2}, got {batch}; set batch_size accordingly'
        )
    tiles = views.reshape(-1, grid, grid, channels, height, width)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, grid * height, grid * width)


def untile_views(mosaic: Tensor, grid: int = 2) -> Tensor:
    """Cut a mosaic (M, C, grid*h, grid*w) back into its views (M * grid**2, C, h, w)."""
    batch, channels, height, width = mosaic.shape
    tiles = mosaic.reshape(batch, channels, grid, height // grid, grid, width // grid)
    return tiles.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, height // grid, width // grid)


def _where(flags: Tensor, changed: Tensor, unchanged: Tensor) -> Tensor:
    chosen = (flags > 0).to(changed.device, non_blocking=True)
    return torch.where(chosen[:, None, None, None], changed, unchanged)


def _transpose(x: Tensor, flags: Tensor) -> Tensor:
    swapped = x.transpose(-1, -2)
    if x.shape[-1] == x.shape[-2]:
        return _where(flags, swapped, x)
    if (flags > 0).all():
        return swapped
    if (flags > 0).any():
        raise ValueError(f'cannot transpose some items of a rectangular batch {tuple(x.shape)}; set transpose_prob=0')
    return x


def _common_size(x: Tensor, records: Tensor) -> tuple[int, int]:
    box = records[:, BOX].long()
    whole = torch.tensor(x.shape[-2:]).expand(len(records), 2)
    size = torch.where((box == 0).all(dim=1, keepdim=True), whole, box[:, 2:] - box[:, :2])
    resized = records[:, SIZE].long()
    size = torch.where(resized > 0, resized, size)
    if (size != size[0]).any():
        raise ValueError(f'the views of one batch have to share one size, got {sorted(set(map(tuple, size.tolist())))}')
    return tuple(size[0].tolist())


def _hat_matrix(start: Tensor, stop: Tensor, n_in: int, n_out: int) -> Tensor:
    steps = torch.arange(n_out) / max(n_out - 1, 1)
    centres = start[:, None] + steps * (stop - 1 - start)[:, None]
    return (1 - (centres[:, :, None] - torch.arange(n_in)).abs()).clamp(min=0)
