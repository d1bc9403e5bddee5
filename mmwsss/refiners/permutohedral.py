"""Gaussian filtering in many dimensions on a permutohedral lattice (Adams, Baek and Davis, 2010)."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from .backends import choose_backend
from .cpu_lattice import CpuLattice


class PermutohedralLattice:
    """Lattice built once for the features of N points, through which any number of values can be filtered.

    Every point falls into one simplex of d + 1 lattice vertices, its values are splatted there with barycentric
    weights, the vertices are blurred along each of the d + 1 lattice directions, and the result is read back with the
    same weights.

    Args:
        features: (N, d), or (B, N, d) for B sets of points that do not see each other; float, scaled so that the
            Gaussian has unit standard deviation.
        backend: 'torch', 'numba' (compiled, CPU tensors only) or 'auto', which is numba for CPU tensors.

    Raises:
        ValueError: ``backend`` is unknown or does not fit the device, or features spread too far for the lattice.
        ImportError: numba is asked for and missing.
    """

    def __init__(self, features: Tensor, backend: str = 'auto') -> None:
        sets, points, dims = features[None].shape if features.ndim == 2 else features.shape
        self._points = (points,) if features.ndim == 2 else (sets, points)
        flat = features.detach().reshape(sets * points, dims).float()
        if choose_backend(backend, features.device) == 'numba':
            self._lattices = [cpu_lattice(part) for part in flat.split(points)]
        else:
            groups = torch.arange(sets, device=flat.device).repeat_interleave(points)
            self._lattices = [TorchLattice(flat, groups)]

    @torch.no_grad()
    def filter(self, values: Tensor) -> Tensor:
        """Filter ``values`` (N, C) or (B, N, C); returns the same shape in float32, not normalised, no gradient.

        Raises:
            ValueError: other numbers of sets or points than those of the features.
        """
        if tuple(values.shape[:-1]) != self._points:
            raise ValueError(f'values {tuple(values.shape)} do not fit a lattice of {self._points} points')
        channels = values.shape[-1]
        parts = values.float().reshape(len(self._lattices), -1, channels)
        if isinstance(self._lattices[0], TorchLattice):
            return self._lattices[0].filter(parts[0]).reshape(values.shape)
        filtered = [lattice.filter(part.contiguous().numpy()) for lattice, part in zip(self._lattices, parts)]
        return torch.stack([torch.from_numpy(part) for part in filtered]).reshape(values.shape)


class TorchLattice:
    """Lattice of (N, d) float32 features in plain torch; points see each other within their group (N,) int64 only.

    ``normalise`` scales the weights of each point by one over the root of its kernel mass, as a CRF needs it.
    """

    def __init__(self, features: Tensor, groups: Tensor, normalise: bool = False) -> None:
        layout = code_layout(features, len(groups.unique()))
        codes, self.weights = simplices(features, layout)
        codes += (groups * layout.size)[:, None]
        keys, self.vertex = torch.unique(codes, return_inverse=True)
        self.num_vertices = len(keys)
        self.neighbours = _neighbours(keys, layout.strides)  # (d + 1, 2, M), M stands for "no such vertex"
        self.scale = 1 / (1 + 2.0 ** -features.shape[1])
        if normalise:
            mass = self.filter(features.new_ones(len(features), 1))
            self.weights = self.weights * (mass + 1e-20).rsqrt()

    def filter(self, values: Tensor) -> Tensor:
        """Filter ``values`` (N, C) float32."""
        grid = values.new_zeros(self.num_vertices + 1, values.shape[1])
        for vertex, weight in zip(self.vertex.T, self.weights.T):
            grid.index_add_(0, vertex, weight[:, None] * values)
        for before, after in self.neighbours:
            # The last row is the missing vertex: it is read as zero and must stay zero.
            blurred = grid.clone()
            blurred[:-1] += 0.5 * (grid[before] + grid[after])
            grid = blurred
        out = torch.zeros_like(values)
        for vertex, weight in zip(self.vertex.T, self.weights.T):
            out.addcmul_(weight[:, None], grid[vertex])
        return out.mul_(self.scale)


def cpu_lattice(features: Tensor, normalise: bool = False) -> CpuLattice:
    """Compiled lattice of (N, d) float32 CPU features."""
    layout = code_layout(features)
    return CpuLattice(features, layout.low, layout.strides, layout.factors, normalise)


class CodeLayout(NamedTuple):
    """How lattice coordinates (d of the d + 1, the last one follows) make up one int64 code of a vertex."""

    factors: Tensor  # (d,) float32, features to lattice units
    low: Tensor  # (d,) int64, below every coordinate
    strides: Tensor  # (d,) int64
    size: int  # above every code


def code_layout(features: Tensor, groups: int = 1) -> CodeLayout:
    """Layout for the vertices around ``features`` (N, d) and their neighbours, with room for ``groups`` such sets.

    Raises:
        ValueError: the codes would not fit into 63 bits.
    """
    dims = features.shape[1]
    axis = torch.arange(dims, device=features.device)
    # Blurring adds a variance of its own; the first factor makes the whole a unit Gaussian.
    factors = (2 / 3) ** 0.5 * (dims + 1) / ((axis + 2.0) * (axis + 1.0)).sqrt()
    lowest, highest = ((bound * factors).double().tolist() for bound in torch.aminmax(features, dim=0))
    margin = 4 * (dims + 1)  # rounding, the simplex and its neighbours
    low, spans = [], []
    for j in range(dims):
        least = sum(lowest[j:]) - (j * highest[j - 1] if j else 0)
        most = sum(highest[j:]) - (j * lowest[j - 1] if j else 0)
        if not most - least < 2**62:
            raise ValueError(f'feature {j} is not finite or spreads too far for a lattice')
        low.append(int(least // 1) - margin)
        spans.append(int(most // 1) + margin + 1 - low[-1])
    size = prod(spans)
    if size * groups >= 2**63:
        raise ValueError(f'features spread over {spans} lattice units, too far; use larger standard deviations')
    strides = [prod(spans[j + 1 :]) for j in range(dims)]
    return CodeLayout(factors, axis.new_tensor(low), axis.new_tensor(strides), size)


def simplices(features: Tensor, layout: CodeLayout) -> tuple[Tensor, Tensor]:
    """Codes (N, d + 1) int64 of the vertices of the simplex around each point and barycentric weights (N, d + 1)."""
    points, dims = features.shape
    axis = torch.arange(dims, device=features.device)
    scaled = features * layout.factors

    # Onto the plane of zero coordinate sum: e_j = sum of the scaled features after j, minus j times the one at j.
    after = scaled.flip(1).cumsum(1).flip(1)
    elevated = torch.cat((after, after.new_zeros(points, 1)), dim=1)
    elevated[:, 1:] -= (axis + 1) * scaled

    nearest = torch.round(elevated / (dims + 1)) * (dims + 1)
    excess = (nearest.sum(dim=1) / (dims + 1)).round().long()
    rank = _rank(elevated - nearest) + excess[:, None]
    wrap = (rank < 0).long() - (rank > dims).long()
    rank = rank + wrap * (dims + 1)
    nearest = nearest + wrap * (dims + 1)

    difference = (elevated - nearest) / (dims + 1)
    weights = features.new_zeros(points, dims + 2)
    weights.scatter_add_(1, dims - rank, difference)
    weights.scatter_add_(1, dims + 1 - rank, -difference)
    weights[:, 0] += 1 + weights[:, dims + 1]

    # From one vertex to the next all coordinates grow by 1, except that the one of the highest rank left falls by d.
    base = ((nearest[:, :dims].long() - layout.low) * layout.strides).sum(dim=1, keepdim=True)
    stride_by_rank = torch.zeros_like(rank).scatter_(1, rank[:, :dims], layout.strides.expand(points, dims))
    steps = layout.strides.sum() - (dims + 1) * stride_by_rank.flip(1)[:, :dims]
    return torch.cat((base, base + steps.cumsum(dim=1)), dim=1), weights[:, : dims + 1]


def _rank(difference: Tensor) -> Tensor:
    """Position of each coordinate in descending order, equal ones in order of their index."""
    order = torch.argsort(difference, dim=1, descending=True, stable=True)
    positions = torch.arange(difference.shape[1], device=difference.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, positions)


def _neighbours(codes: Tensor, strides: Tensor) -> Tensor:
    """Index (d + 1, 2, M) of the vertices one step before and after each of the ascending ``codes`` (M,)."""
    count, dims = len(codes), len(strides)
    shift = strides.sum() - (dims + 1) * torch.cat((strides, strides.new_zeros(1)))
    wanted = torch.stack((codes - shift[:, None], codes + shift[:, None]), dim=1)
    found = torch.searchsorted(codes, wanted).clamp(max=count - 1)
    return torch.where(codes[found] == wanted, found, count)
