"""Affinity of neighbouring grid cells: which pairs there are, what label a pair gets, and matrices from pair values.

The pairs and labels are those of PSA (Ahn and Kwak, CVPR 2018).
"""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from mmwsss.registry import TASK_UTILS

from .cells import pool_to_cells


def pair_offsets(radius: int) -> list[tuple[int, int]]:
    """Steps (dy, dx) from a cell to its partners closer than ``radius`` cells, one of each opposite two.

    First the cells to the right, then row by row those below.
    """
    reach = range(1 - radius, radius)
    right = [(0, dx) for dx in range(1, radius)]
    return right + [(dy, dx) for dy in range(1, radius) for dx in reach if dy * dy + dx * dx < radius * radius]


def fitted_radius(radius: int, size: tuple[int, int]) -> int:
    """``radius``, or the largest that leaves inner cells in a small grid: half its shorter side less one."""
    side = min(size)
    return radius if side >= 2 * radius + 1 else (side - 1) // 2


def pair_indices(radius: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Flat cell indices of all pairs whose first cell has every partner inside a grid of ``size`` (h, w).

    Returns:
        first cells (M,) and their partners (P, M), int64, P as in :func:`pair_offsets`.

    Raises:
        ValueError: the grid is too small for the radius.
    """
    cells = torch.arange(size[0] * size[1]).view(size)
    first, partners = _pairs(cells, radius)
    return first, partners


def _windows(grid: Tensor, radius: int) -> list[Tensor]:
    """Parts (..., h', w') of ``grid`` (..., h, w): the first cells of all pairs, then their partners step by step."""
    edge = radius - 1
    height, width = grid.shape[-2] - edge, grid.shape[-1] - 2 * edge
    if radius < 2 or height < 1 or width < 1:
        raise ValueError(
            f'no pair within radius {radius} in a grid of {tuple(grid.shape[-2:])}; take a radius of at least 2 and at '
            'most what fitted_radius gives, which needs 5 cells a side'
        )
    steps = [(0, 0), *pair_offsets(radius)]
    return [grid[..., dy : dy + height, edge + dx : edge + dx + width] for dy, dx in steps]


def _pairs(grid: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Values of ``grid`` (..., h, w) at the first cells (..., M) and at their partners (..., P, M)."""
    first, *partners = (window.flatten(-2) for window in _windows(grid, radius))
    return first, torch.stack(partners, dim=-2)


def pair_affinity(features: Tensor, radius: int) -> Tensor:
    """Affinity exp(-mean_c |difference of features|) of all pairs (PSA).

    Args:
        features: (B, D, h, w); half precision is too coarse for affinities near 1.
        radius: see :func:`pair_offsets`.

    Returns:
        (B, P, M) in (0, 1], in the order of :func:`pair_indices`.

    Raises:
        ValueError: the grid is too small for the radius.
    """
    first, *partners = _windows(features, radius)
    # Step by step, as all pairs at once would hold the features P times more often than their gradients need.
    values = [(-(first - other).abs().mean(dim=1)).exp().flatten(1) for other in partners]
    return torch.stack(values, dim=1)


def pair_labels(label_map: Tensor, radius: int, ignore_index: int = 255) -> tuple[Tensor, Tensor, Tensor]:
    """What is known of every pair of cells of ``label_map`` (..., h, w), 0 being the background.

    Returns:
        Three masks (..., P, M) float32: both cells background, both of one foreground class, both labelled but
        different. Pairs with an ignored cell are in none.
    """
    first, partners = _pairs(label_map, radius)
    first = first[..., None, :]
    known = (first != ignore_index) & (partners != ignore_index)
    equal = (first == partners) & known
    return (equal & (first == 0)).float(), (equal & (first != 0)).float(), (known & (first != partners)).float()


def affinity_label_map(
    low: Tensor, high: Tensor, stride: int = 8, min_score: float = 1e-5, ignore_index: int = 255
) -> Tensor:
    """Label map on the grid of the features from two CRF results of one image (PSA).

    With a low exponent of the background score the foreground is certain only where it wins against a strong
    background; with a high exponent the background is certain where it wins although it is weak.

    Args:
        low, high: (C, H, W) scores for the low and the high exponent, channel 0 is the background.
        stride: side in pixels of a cell, over which the scores are averaged.
        min_score: cells where no score reaches this (padding) are ignored.

    Returns:
        (H // stride, W // stride) int64 of channel indices: the class where ``low`` decides for one, background
        where ``high`` does, ``ignore_index`` in between.

    Raises:
        ValueError: the two stacks differ in shape.
    """
    if low.shape != high.shape:
        raise ValueError(f'scores differ in shape: low {tuple(low.shape)}, high {tuple(high.shape)}')
    low, high = (F.avg_pool2d(scores.float(), stride) for scores in (low, high))
    label = low.argmax(dim=0)
    label[label == 0] = ignore_index
    label[high.argmax(dim=0) == 0] = 0
    label[torch.maximum(low, high).amax(dim=0) < min_score] = ignore_index
    return label


def crop_flip_pad(stack: Tensor, crop_size: int, corner: tuple[int, int], flip: bool) -> Tensor:
    """Square crop of ``stack`` (C, H, W), mirrored left-right if ``flip``; what lies outside is 0.

    The image and both CRF results of one sample go through this with the same draws. It runs before the image is
    normalised, so the padding is black, unlike in the training of the class maps.

    Args:
        corner: (y, x); along an axis longer than the crop the first pixel taken, otherwise the place of the first
            pixel in the crop.

    Raises:
        ValueError: the corner leaves the range that :func:`corner_range` gives.
    """
    limits = tuple(corner_range(side, crop_size) for side in stack.shape[1:])
    if any(not 0 <= at <= limit for at, limit in zip(corner, limits)):
        raise ValueError(f'corner {tuple(corner)} of the crop lies outside 0 to {limits}')
    out = stack.new_zeros(len(stack), crop_size, crop_size)
    source, target = zip(*(_overlap(side, crop_size, at) for side, at in zip(stack.shape[1:], corner)))
    out[(slice(None), *target)] = stack[(slice(None), *source)]
    return out.flip(-1) if flip else out


def corner_range(side: int, crop_size: int) -> int:
    """Largest value of the corner of :func:`crop_flip_pad` along an axis of ``side`` pixels; the smallest is 0."""
    return abs(side - crop_size)


def _overlap(side: int, crop_size: int, at: int) -> tuple[slice, slice]:
    length = min(side, crop_size)
    taken, free = slice(at, at + length), slice(0, length)
    return (taken, free) if side > crop_size else (free, taken)


def pair_matrix(values: Tensor, first: Tensor, partners: Tensor, cells: int) -> Tensor:
    """Symmetric affinity of all cells of a batch from the values of the pairs; a cell's affinity to itself is 1.

    Args:
        values: (B, P, M) affinities of the pairs.
        first, partners: (M,) or (P, M), and (P, M): cell indices as from :func:`pair_indices`.
        cells: number N of cells of an image.

    Returns:
        (B N, B N) sparse CSR, one block of N on the diagonal for each image.
    """
    batch = len(values)
    start = cells * torch.arange(batch, device=values.device)[:, None, None]
    here = (start + first.to(start)).expand(values.shape).flatten()
    there = (start + partners.to(start)).flatten()
    diagonal = torch.arange(batch * cells, device=values.device)
    rows, columns = torch.cat((here, there, diagonal)), torch.cat((there, here, diagonal))
    entries = torch.cat((values.flatten(), values.flatten(), values.new_ones(batch * cells)))
    return sparse_rows(rows, columns, entries, batch * cells)


def sparse_rows(rows: Tensor, columns: Tensor, values: Tensor, size: int) -> Tensor:
    """Square sparse CSR matrix of ``size`` with ``values`` at (``rows``, ``columns``), in any order."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Sparse CSR tensor support is in beta', UserWarning)
        entries = torch.sparse_coo_tensor(torch.stack((rows, columns)), values, (size, size), check_invariants=False)
        return entries.coalesce().to_sparse_csr()


@TASK_UTILS.register_module()
class ColourAffinity:
    """Affinity exp(-mean_c |difference of colour| / deviation) of the cells closer than ``radius``; needs no network.

    Args:
        radius: in cells; a cell at the border has the partners that lie inside the grid.
        deviation: grey levels (0..255) at which the affinity falls to 1/e.
    """

    def __init__(self, radius: int = 5, deviation: float = 40.0) -> None:
        if radius < 2 or deviation <= 0:
            raise ValueError(f'radius {radius} and deviation {deviation}; expected at least 2 and more than 0')
        self.offsets = pair_offsets(radius)
        self.deviation = deviation

    def __call__(self, images: Tensor, stride: int) -> Tensor:
        """Affinity of ``images`` (B, 3, H, W) RGB in 0..255 over cells of ``stride`` pixels; see :func:`pair_matrix`.

        A cell at the border that the image fills in part has the mean colour of that part.
        """
        images = images.float()
        colours = pool_to_cells(images, stride) / pool_to_cells(torch.ones_like(images[:1, :1]), stride)
        size = tuple(colours.shape[-2:])
        cells = torch.arange(size[0] * size[1], device=images.device).view(size)
        values, first, partners = [], [], []
        for dy, dx in self.offsets:
            left, right = max(-dx, 0), size[1] - max(dx, 0)
            if dy >= size[0] or left >= right:
                continue
            here = slice(0, size[0] - dy), slice(left, right)
            there = slice(dy, size[0]), slice(left + dx, right + dx)
            difference = (colours[(..., *here)] - colours[(..., *there)]).abs().mean(dim=1)
            values.append((-difference / self.deviation).exp().flatten(1))
            first.append(cells[here].flatten())
            partners.append(cells[there].flatten())
        pairs = torch.cat([colours.new_zeros(len(images), 0), *values], dim=1)[:, None]
        ends = (torch.cat([cells.new_zeros(0), *parts])[None] for parts in (first, partners))
        return pair_matrix(pairs, *ends, cells.numel())
