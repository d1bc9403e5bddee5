"""Permutohedral lattice and mean field on the CPU: compiled loops, shared among plain threads."""

from __future__ import annotations

from functools import lru_cache, partial
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from . import threads
from .backends import compiled_kernels
from .threads import each

VECTOR = 8  # rows of channels are padded to multiples of this many floats
LISTED = 4  # lists of points are padded to multiples of this, with points of weight 0
NEVER = -1e9  # logarithm of the probability of a channel that only pads
SMALL = 2048  # items that one thread does sooner than several
TILE = 32  # pixels of a tile share lattice vertices; walking tile by tile keeps these in the cache
GAUSSIAN_LATTICES = 4  # lattices of image sizes that are kept

share = partial(threads.share, small=SMALL)


class CpuLattice:
    """Lattice of (N, d) float32 CPU features; see :class:`~mmwsss.refiners.permutohedral.PermutohedralLattice`.

    Vertices hold lists of their points, so that splatting, like all other passes, writes each row in one thread only
    and sums in the same order whatever the number of threads.

    Args:
        features: (N, d) float32.
        low, strides: (d,) lowest coordinate and int64 weight of each lattice coordinate in the vertex code.
        factors: (d,) float32 scale of each feature.
        normalise: scale the weights of each point by one over the root of its kernel mass.
    """

    def __init__(self, features: Tensor, low: Tensor, strides: Tensor, factors: Tensor, normalise: bool) -> None:
        points, dims = features.shape
        codes = np.empty((points, dims + 1), np.int64)
        self.weights = np.empty((points, dims + 1), np.float32)
        args = (tensor.contiguous().numpy() for tensor in (features, factors, low, strides))
        share(build_kernels().simplices, points, *args, codes, self.weights)
        self.vertex = np.empty((points, dims + 1), np.int32)
        self._number(codes.reshape(-1), strides.numpy(), dims + 1)
        self.scale = np.float32(1 / (1 + 2.0**-dims))
        if normalise:
            norm = self.filter(np.ones((points, 1), np.float32))
            norm = 1 / np.sqrt(norm + np.float32(1e-20))
            share(kernels().scale_points, points, self.weights, norm)
            share(kernels().scale_lists, len(self.points), self.points, self.point_weights, norm)

    def _number(self, codes: np.ndarray, strides: np.ndarray, corners: int) -> None:
        """Number the vertices, list the points of each and find its neighbours."""
        vertex, weights = self.vertex.reshape(-1), self.weights.reshape(-1)
        # Each of several hash tables is filled and read by one thread.
        parts = min(torch.get_num_threads(), 1 + len(codes) // SMALL)
        found = each(build_kernels().number_vertices, parts, codes, vertex, corners)
        keys, counts = (np.concatenate(column) for column in list(zip(*found))[:2])
        offsets = np.cumsum([0] + [len(part[0]) for part in found])
        self.starts = np.concatenate(([0], np.cumsum(-(-counts // LISTED) * LISTED)))
        self.points = np.zeros(self.starts[-1], np.int32)
        self.point_weights = np.zeros(self.starts[-1], np.float32)
        target = (weights, vertex, self.starts.copy(), self.points, self.point_weights, corners)
        each(lambda count, part: build_kernels().list_points(codes, *target, offsets[part], count, part), parts)
        self.num_vertices = len(keys)
        neighbours = np.full((corners, len(keys) + 1, 2), len(keys), np.int32)
        shifts = strides.sum() - corners * np.append(strides, 0)
        each(
            lambda count, part: build_kernels().find_neighbours(
                keys, shifts, *found[part][2:], neighbours, offsets[part], count, part
            ),
            parts,
        )
        # The dense grid of positions is blurred tile by tile, two directions at once, which spares traffic to memory.
        # In more dimensions the neighbours of neighbours are too scattered for that, but runs of vertices can be
        # blurred in place.
        self.neighbours = neighbours if corners == 3 else None
        self.chains = None
        if self.neighbours is None:
            self.chains = each(lambda count, direction: _chains(neighbours[direction, :-1]), corners)

    def new_grids(self, width: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Two arrays (M + 1, W) for :meth:`blurred`, of which the second is None where it blurs in place."""
        grid = np.empty((self.num_vertices + 1, width), np.float32)
        return grid, np.empty_like(grid) if self.chains is None else None

    def blurred(self, values: np.ndarray, grid: np.ndarray, other: np.ndarray | None) -> np.ndarray:
        """Values (N, W) splatted into ``grid`` (M + 1, W) and blurred there, with the help of ``other``."""
        grid[-1] = 0  # the missing vertex
        share(kernels().splat, self.num_vertices, values, self.starts, self.points, self.point_weights, grid)
        if self.chains is not None:
            for order, starts in self.chains:
                share(kernels().blur_chains, len(starts) - 1, grid, order, starts)
            return grid
        other[-1] = 0
        share(kernels().blur_twice, self.num_vertices, grid, *self.neighbours[:2], other)
        share(kernels().blur, self.num_vertices, other, self.neighbours[2], grid)
        return grid

    def filter(self, values: np.ndarray) -> np.ndarray:
        """Filter (N, C) float32."""
        out = np.empty_like(values)
        grid = self.blurred(values, *self.new_grids(values.shape[1]))
        share(kernels().slice_points, len(out), grid, self.vertex, self.weights, self.scale, out)
        return out


def cpu_mean_field(
    log_probabilities: Tensor,
    order: np.ndarray,
    gaussian: tuple[float, CpuLattice | None],
    bilateral: tuple[float, CpuLattice | None],
    iterations: int,
) -> Tensor:
    """Marginals (C, N) of logarithms (C, N).

    Args:
        log_probabilities: (C, N) float32.
        order: (N,) order of the points in the lattices.
        gaussian, bilateral: weight and lattice of 2-D and 5-D features; without a lattice the kernel is left out.
        iterations: mean-field steps.
    """
    classes, points = log_probabilities.shape
    width = -(-classes // VECTOR) * VECTOR
    unary = np.full((points, width), NEVER, np.float32)
    q = np.empty((points, width), np.float32)
    share(kernels().gather_points, points, log_probabilities.contiguous().numpy(), order, unary)
    silence = [_no_message(points, corners, width) for corners in (3, 6)]
    # Made once: fresh memory costs the kernel more time than a pass over it.
    grids = [lattice.new_grids(width) if lattice else None for _, lattice in (gaussian, bilateral)]
    for step in range(iterations + 1):
        messages = silence
        if step:
            messages = [
                (lattice.blurred(q, *pair), lattice.vertex, lattice.weights, np.float32(weight * lattice.scale))
                if lattice
                else nothing
                for (weight, lattice), pair, nothing in zip((gaussian, bilateral), grids, silence)
            ]
        share(kernels().mean_field_update, points, unary, *messages[0], *messages[1], q)
    out = torch.empty(classes, points)
    share(kernels().scatter_points, points, q, order, out.numpy())
    return out


def _no_message(points: int, corners: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.float32]:
    """Grid, vertices, weights and scale that add zero to every point."""
    vertex = np.zeros((points, corners), np.int32)
    return np.zeros((1, width), np.float32), vertex, vertex.view(np.float32), np.float32(0)


def _chains(neighbours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of two and more neighbours (M, 2) along one direction: their vertices, and where each run starts."""
    order, starts = np.empty(len(neighbours), np.int32), np.empty(len(neighbours) // 2 + 1, np.int32)
    runs = build_kernels().list_chains(neighbours, order, starts)
    return order[: starts[runs]].copy(), starts[: runs + 1].copy()


@lru_cache(maxsize=GAUSSIAN_LATTICES)
def tile_order(height: int, width: int) -> np.ndarray:
    """Indices (height * width,) int32 of the pixels of an image, tile by tile."""
    y, x = np.divmod(np.arange(height * width), width)
    return np.lexsort((x, y, x // TILE, y // TILE)).astype(np.int32)


def kernels() -> ModuleType:
    """The compiled kernels that filter; raises ImportError where numba is missing."""
    return compiled_kernels('lattice_kernels', 'the lattice')


def build_kernels() -> ModuleType:
    """The compiled kernels that build a lattice; raises ImportError where numba is missing."""
    return compiled_kernels('lattice_build_kernels', 'the lattice')
