"""The lattice approximates a Gaussian and is linear, symmetric and equivariant."""

from __future__ import annotations

import pytest
import torch

from mmwsss.refiners import PermutohedralLattice
from mmwsss.refiners.permutohedral import _simplex


def gaussian(features: torch.Tensor) -> torch.Tensor:
    return torch.exp(-0.5 * torch.cdist(features.double(), features.double()) ** 2).float()


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def smooth_features() -> torch.Tensor:
    """A dense sampling of the plane, as pixels are of an image."""
    y, x = torch.meshgrid(torch.arange(14), torch.arange(11), indexing='ij')
    return torch.stack((x, y), dim=-1).reshape(-1, 2) / 2.5


def test_filter_approximates_the_dense_gaussian(smooth_features: torch.Tensor) -> None:
    values = torch.rand(len(smooth_features), 2)
    kernel = gaussian(smooth_features)
    lattice = PermutohedralLattice(smooth_features)
    mass = lattice.filter(torch.ones(len(values), 1))
    approximate = lattice.filter(values) / mass
    exact = kernel @ values / kernel.sum(dim=1, keepdim=True)
    assert (approximate - exact).abs().max() < 0.08
    centred = exact - exact.mean(dim=0)
    assert (approximate - exact).square().mean() < 0.1 * centred.square().mean()


def test_far_points_do_not_meet() -> None:
    features = torch.tensor([[0.0, 0.0, 0.0], [40.0, 0.0, 0.0], [0.1, 0.0, 0.0]])
    out = PermutohedralLattice(features).filter(torch.tensor([[1.0], [0.0], [0.0]]))
    assert out[1] == 0
    assert out[2] > 0.5 * out[0] > 0


@pytest.mark.parametrize('dims', [1, 2, 5])
def test_the_operator_is_linear_and_nearly_symmetric(dims: int) -> None:
    features = torch.rand(40, dims) * 3
    lattice = PermutohedralLattice(features)
    operator = lattice.filter(torch.eye(40))
    values = torch.rand(40, 3)
    torch.testing.assert_close(lattice.filter(values), operator @ values, atol=1e-5, rtol=1e-5)
    # the blur visits the directions one after another and the lattice is finite, hence not exactly symmetric
    assert (operator - operator.T).abs().max() < 0.4 * operator.abs().max()
    assert (operator >= 0).all()


@pytest.mark.parametrize('dims', [1, 2, 3, 5])
def test_barycentric_coordinates(dims: int) -> None:
    features = torch.randn(200, dims) * 10
    features[0] = 0
    vertices, weights = _simplex(features)
    assert (weights > -1e-4).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(200), atol=1e-4, rtol=0)
    assert (vertices.sum(dim=-1) == 0).all(), 'vertices lie on the plane of zero sum'
    remainder = vertices.remainder(dims + 1)
    assert (remainder == remainder[..., :1]).all(), 'coordinates of a vertex agree modulo d + 1'


def test_order_of_points_does_not_matter() -> None:
    features, values = torch.rand(30, 3) * 4, torch.rand(30, 2)
    order = torch.randperm(30)
    out = PermutohedralLattice(features).filter(values)
    shuffled = PermutohedralLattice(features[order]).filter(values[order])
    torch.testing.assert_close(shuffled, out[order], atol=1e-5, rtol=1e-5)


def test_one_point() -> None:
    out = PermutohedralLattice(torch.zeros(1, 2)).filter(torch.tensor([[2.0, -1.0]]))
    assert out[0, 0] > 0
    torch.testing.assert_close(out[0, 1], -out[0, 0] / 2)
