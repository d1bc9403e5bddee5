"""Gaussian filtering in many dimensions on a permutohedral lattice (Adams, Baek and Davis, 2010)."""

from __future__ import annotations

import torch
from torch import Tensor


class PermutohedralLattice:
    """Lattice built once for the features of N points, through which any number of values can be filtered.

    Vectorised over points: every point falls into one simplex of d + 1 lattice vertices, its values are splatted there
    with barycentric weights, the vertices are blurred along each of the d + 1 lattice directions, and the result is
    read back with the same weights.

    Args:
        features: (N, d) float, scaled so that the Gaussian has unit standard deviation.
    """

    def __init__(self, features: Tensor) -> None:
        points, dims = features.shape
        self.dims = dims
        vertices, self.weights = _simplex(features.float())  # (N, d + 1, d + 1) int64, (N, d + 1)
        keys, self.vertex = torch.unique(vertices[..., :dims].reshape(-1, dims), dim=0, return_inverse=True)
        self.vertex = self.vertex.reshape(points, dims + 1)
        self.num_vertices = len(keys)
        self.neighbours = _neighbours(keys)  # (d + 1, 2, M), M stands for "no such vertex"
        self.scale = 1 / (1 + 2.0**-dims)

    def filter(self, values: Tensor) -> Tensor:
        """Filter ``values`` (N, C); returns (N, C), not normalised."""
        channels = values.shape[1]
        grid = values.new_zeros(self.num_vertices + 1, channels)
        grid.index_add_(0, self.vertex.flatten(), (self.weights[..., None] * values[:, None]).reshape(-1, channels))
        for before, after in self.neighbours:
            # The last row is the missing vertex: it is read as zero and must stay zero.
            blurred = grid[:-1] + 0.5 * (grid[before] + grid[after])
            grid = torch.cat((blurred, grid[-1:]))
        return self.scale * (self.weights[..., None] * grid[self.vertex]).sum(dim=1)


def _simplex(features: Tensor) -> tuple[Tensor, Tensor]:
    """Vertices (N, d + 1, d + 1) and barycentric weights (N, d + 1) of the simplex around each point."""
    points, dims = features.shape
    device = features.device
    axis = torch.arange(dims, device=device)
    # Blurring adds a variance of its own; this factor makes the whole a unit Gaussian.
    inverse_deviation = (2 / 3) ** 0.5 * (dims + 1)
    scaled = features * (inverse_deviation / ((axis + 2.0) * (axis + 1.0)).sqrt())

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

    remainder = torch.arange(dims + 1, device=device)
    canonical = remainder[:, None] - (dims + 1) * (rank[:, None, :] > dims - remainder[:, None]).long()
    return nearest.long()[:, None, :] + canonical, weights[:, : dims + 1]


def _rank(difference: Tensor) -> Tensor:
    """Position of each coordinate in descending order, equal ones in order of their index."""
    order = torch.argsort(difference, dim=1, descending=True, stable=True)
    positions = torch.arange(difference.shape[1], device=difference.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, positions)


def _neighbours(keys: Tensor) -> Tensor:
    """Index of the vertices one step before and after each of ``keys`` (M, d) along each lattice direction."""
    count, dims = keys.shape
    low = keys.amin(dim=0) - dims - 1
    span = keys.amax(dim=0) + dims + 1 - low + 1
    stride = torch.cat((span.flip(0).cumprod(0).flip(0)[1:], span.new_ones(1)))
    codes = ((keys - low) * stride).sum(dim=1)  # ascending, as torch.unique sorts rows
    steps = torch.ones(dims + 1, dims, dtype=torch.long, device=keys.device)
    steps[torch.arange(dims), torch.arange(dims)] -= dims + 1
    shift = (steps * stride).sum(dim=1)
    wanted = torch.stack((codes - shift[:, None], codes + shift[:, None]), dim=1)  # (d + 1, 2, M)
    found = torch.searchsorted(codes, wanted).clamp(max=count - 1)
    return torch.where(codes[found] == wanted, found, count)
