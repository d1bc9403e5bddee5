"""Random walk of scores between grid cells along their affinity (PSA, Ahn and Kwak, CVPR 2018)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmwsss.ops.channels import present_channels
from mmwsss.registry import REFINERS, TASK_UTILS

from .affinity import sparse_rows
from .base import Refiner, check_inputs, check_whole
from .cells import pool_to_cells, spread_cells


def transition(affinity: Tensor, beta: float) -> Tensor:
    """Transposed transition matrix of a walk: affinity ** beta divided by its column sums, then transposed.

    Args:
        affinity: non-negative, (B, N, N), or (B N, B N) sparse (COO or CSR) with one block for each image.

    Returns:
        The same layout and shape, CSR if sparse; every row sums to 1.
    """
    if affinity.layout == torch.strided:
        power = affinity.float().transpose(-1, -2) ** beta
        return power / power.sum(dim=-1, keepdim=True)
    entries = (affinity if affinity.layout == torch.sparse_coo else affinity.to_sparse_coo()).coalesce()
    (rows, columns), values = entries.indices(), entries.values().float() ** beta
    total = values.new_zeros(affinity.shape[1]).index_add_(0, columns, values)
    return sparse_rows(columns, rows, values / total[columns], len(total))


def random_walk(affinity: Tensor, scores: Tensor, beta: float = 8.0, logt: int = 6) -> Tensor:
    """Let ``scores`` walk 2 ** ``logt`` steps along ``affinity``.

    The matrix is applied to the scores step by step: with few channels that is far less work than squaring it ``logt``
    times, and it stays sparse.

    Args:
        affinity: (B, N, N) or sparse (B N, B N), see :func:`transition`.
        scores: (B, C, h, w) with N = h w cells.
        beta: exponent that sharpens the affinity.
        logt: logarithm to base 2 of the number of steps.

    Returns:
        (B, C, h, w) float32.

    Raises:
        ValueError: the affinity does not fit the scores.
    """
    batch, channels, height, width = scores.shape
    dense = affinity.layout == torch.strided
    cells = height * width
    expected = (batch, cells, cells) if dense else (batch * cells, batch * cells)
    if tuple(affinity.shape) != expected:
        raise ValueError(
            f'affinity is {tuple(affinity.shape)}, expected {expected} for {batch} images of {height} x {width} cells'
        )
    with torch.autocast(scores.device.type, enabled=False):
        steps = transition(affinity, beta)
        vectors = scores.float().flatten(2).transpose(1, 2)  # B N C
        vectors = vectors if dense else vectors.reshape(batch * cells, channels)
        for _ in range(2**logt):
            vectors = steps @ vectors
    return vectors.reshape(batch, cells, channels).transpose(1, 2).reshape(scores.shape)


@REFINERS.register_module()
class RandomWalk(Refiner):
    """Refiner that lets the maps walk along an affinity of grid cells; the defaults are those of PMM's release.

    Args:
        affinity: config of a callable in ``TASK_UTILS``, or a callable, from images (B, 3, H, W) and the side of a cell
            in pixels to the affinity matrix of the ceil(H / side) x ceil(W / side) cells, see :func:`transition`:
            ``ColourAffinity``, ``NetworkAffinity`` or one of yours. None where every call brings its own.
        beta, logt: see :func:`random_walk`; PSA has 8 and 8.
        stride: side of a cell in pixels.

    A background walks like any other channel. PSA and PMM give the maps one before, at the size of the images:
    (1 - best score) to the power of 16 and 6.

    Raises:
        ValueError: a setting is impossible.
    """

    def __init__(
        self,
        affinity: dict[str, Any] | Callable[[Tensor, int], Tensor] | None = None,
        beta: float = 8.0,
        logt: int = 6,
        stride: int = 8,
    ) -> None:
        if not beta > 0:
            raise ValueError(f'beta is {beta!r}; expected more than 0')
        self.source = TASK_UTILS.build(affinity) if isinstance(affinity, dict) else affinity
        self.beta = beta
        self.logt = check_whole('logt', logt, 0)
        self.stride = check_whole('stride', stride, 1)

    @torch.no_grad()
    def __call__(
        self, images: Tensor, maps: Tensor, labels: Tensor | None = None, affinity: Tensor | None = None
    ) -> Tensor:
        """Refine ``maps`` on ``images``; see :class:`Refiner`.

        Args:
            affinity: matrix for these images instead of the one of the source.

        Raises:
            ValueError: neither the constructor nor the call gave an affinity, or the inputs do not belong together.
        """
        check_inputs(images, maps, labels)
        size = images.shape[-2:]
        if affinity is None:
            if self.source is None:
                raise ValueError(
                    'RandomWalk has no affinity; set affinity=dict(type=...) in its config or hand one to the call'
                )
            affinity = self.source(images, self.stride)
        maps = maps.float()
        if maps.shape[-2:] != size:
            maps = F.interpolate(maps, size=size, mode='bilinear')
        present = None
        if labels is not None:
            present = present_channels(labels.to(maps.device), maps.shape[1])
            # Not a product: absent channels may hold anything, and nan times 0 stays nan.
            maps = torch.where(present[:, :, None, None], maps, 0.0)
        return self._walk(affinity, maps, present)

    def _walk(self, affinity: Tensor, maps: Tensor, present: Tensor | None) -> Tensor:
        if present is None:
            scores = random_walk(affinity, pool_to_cells(maps, self.stride), self.beta, self.logt)
            return spread_cells(scores, self.stride, maps.shape[-2:])
        # The present channels of every image move to the front, so that the walk is as wide as the fullest image.
        width = max(map(sum, present.tolist()), default=0)
        if not width:
            return torch.zeros_like(maps)
        order = present.byte().argsort(dim=1, descending=True, stable=True)[:, :width]
        index = order[:, :, None, None].expand(-1, -1, *maps.shape[-2:])
        scores = random_walk(affinity, pool_to_cells(maps.gather(1, index), self.stride), self.beta, self.logt)
        walked = spread_cells(scores, self.stride, maps.shape[-2:])
        return torch.zeros_like(maps).scatter_(1, index, walked)
