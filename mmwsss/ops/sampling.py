"""Enlarging only the pixels that a later reduction reads."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .resize import resize_matrices


def linear_matrix(n_in: int, n_out: int) -> Tensor:
    """torch's linear rule with half-pixel centres and repeated borders, no antialias, as float32 (n_out, n_in)."""
    centre = ((torch.arange(n_out, dtype=torch.float64) + 0.5) * n_in / n_out - 0.5).clamp(min=0)
    base = centre.floor().long().clamp(max=n_in - 1)
    offset = centre - base
    matrix = torch.zeros(n_out, n_in, dtype=torch.float64)
    matrix.scatter_add_(1, base[:, None], (1 - offset)[:, None])
    matrix.scatter_add_(1, (base + 1).clamp(max=n_in - 1)[:, None], offset[:, None])
    return matrix.float()


@lru_cache(maxsize=64)
def sampling_matrices(n_in: int, n_full: int, n_out: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """``enlarge`` (S, n_in) to the S of ``n_full`` pixels that are read, and ``reduce`` (n_out, S) from these."""
    reduce = linear_matrix(n_full, n_out)
    read = (reduce != 0).any(dim=0)
    return linear_matrix(n_in, n_full)[read].to(device), reduce[:, read].to(device)


class SampledResize:
    """Bilinear enlargement to ``full``, evaluated only where the bilinear reduction from there to ``out`` reads.

    A reduction without antialias reads at most two pixels of each axis for every pixel it makes. What happens pixel by
    pixel in between, such as a softmax of enlarged logits, is equal there to what it would be at full size.

    Args:
        full: (H, W) of the enlarged maps.
        out: (h, w) of the reduced maps.
    """

    def __init__(self, full: tuple[int, int], out: tuple[int, int]) -> None:
        self.full, self.out = tuple(full), tuple(out)

    def enlarge(self, maps: Tensor) -> Tensor:
        """Values (..., S, T) of the enlarged ``maps`` (..., h', w') at the pixels that are read."""
        matrices = self._matrices(maps.shape[-2:], maps.device)
        return resize_matrices(maps, *(enlarge for enlarge, _ in matrices))

    def reduce(self, samples: Tensor) -> Tensor:
        """Maps (..., h, w) from values (..., S, T) at the pixels that are read."""
        matrices = self._matrices(self.full, samples.device)
        return resize_matrices(samples, *(reduce for _, reduce in matrices))

    def _matrices(self, size: tuple[int, int], device: torch.device) -> list[tuple[Tensor, Tensor]]:
        return [sampling_matrices(*sides, device) for sides in zip(size, self.full, self.out)]
