"""The lattice approximates a Gaussian and is linear, symmetric and equivariant; both backends agree."""

from __future__ import annotations

import pytest
import torch

from mmwsss.refiners import PermutohedralLattice
from mmwsss.refiners.backends import choose_backend
from mmwsss.refiners.permutohedral import CodeLayout, code_layout, simplices

BACKENDS = pytest.mark.parametrize('backend', ['numba', 'torch'])


def gaussian(features: torch.Tensor) -> torch.Tensor:
    return torch.exp(-0.5 * torch.cdist(features.double(), features.double()) ** 2).float()


def decode(codes: torch.Tensor, layout: CodeLayout) -> torch.Tensor:
    """Coordinates (..., d + 1) of vertices."""
    strides, low = layout.strides.tolist(), layout.low.tolist()
    coordinates = []
    for stride, least in zip(strides, low):
        coordinates.append(codes.div(stride, rounding_mode='floor') + least)
        codes = codes % stride
    first = torch.stack(coordinates, dim=-1)
    return torch.cat((first, -first.sum(dim=-1, keepdim=True)), dim=-1)


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def smooth_features() -> torch.Tensor:
    """A dense sampling of the plane, as pixels are of an image."""
    y, x = torch.meshgrid(torch.arange(14), torch.arange(11), indexing='ij')
    return torch.stack((x, y), dim=-1).reshape(-1, 2) / 2.5


@BACKENDS
def test_filter_approximates_the_dense_gaussian(smooth_features: torch.Tensor, backend: str) -> None:
    values = torch.rand(len(smooth_features), 2)
    kernel = gaussian(smooth_features)
    lattice = PermutohedralLattice(smooth_features, backend)
    mass = lattice.filter(torch.ones(len(values), 1))
    approximate = lattice.filter(values) / mass
    exact = kernel @ values / kernel.sum(dim=1, keepdim=True)
    assert (approximate - exact).abs().max() < 0.08
    centred = exact - exact.mean(dim=0)
    assert (approximate - exact).square().mean() < 0.1 * centred.square().mean()


@BACKENDS
def test_far_points_do_not_meet(backend: str) -> None:
    features = torch.tensor([[0.0, 0.0, 0.0], [40.0, 0.0, 0.0], [0.1, 0.0, 0.0]])
    out = PermutohedralLattice(features, backend).filter(torch.tensor([[1.0], [0.0], [0.0]]))
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
    layout = code_layout(features)
    codes, weights = simplices(features, layout)
    assert ((codes >= 0) & (codes < layout.size)).all()
    assert (weights > -1e-4).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(200), atol=1e-4, rtol=0)
    vertices = decode(codes, layout)
    remainder = vertices.remainder(dims + 1)
    assert (remainder == remainder[..., :1]).all(), 'coordinates of a vertex agree modulo d + 1'
    assert (remainder[..., 0] == torch.arange(dims + 1)).all(), 'a simplex has one vertex of each remainder'
    scaled = features * layout.factors
    after = scaled.flip(1).cumsum(1).flip(1)
    elevated = torch.cat((after, torch.zeros(200, 1)), dim=1)
    elevated[:, 1:] -= torch.arange(1, dims + 1) * scaled
    torch.testing.assert_close((weights[..., None] * vertices).sum(dim=1), elevated, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize('dims', [1, 2, 3, 5])
@pytest.mark.parametrize('points', [1, 7, 3000])
def test_backends_agree(dims: int, points: int) -> None:
    features = torch.randn(points, dims) * 2
    for channels in (1, 3, 8, 13):
        values = torch.randn(points, channels)
        ours, plain = (PermutohedralLattice(features, backend).filter(values) for backend in ('numba', 'torch'))
        assert ours.dtype == plain.dtype == torch.float32
        torch.testing.assert_close(ours, plain, atol=2e-5, rtol=1e-5)


@BACKENDS
def test_sets_do_not_see_each_other(backend: str) -> None:
    features, values = torch.rand(3, 50, 4).double() * 4, torch.rand(3, 50, 2)
    out = PermutohedralLattice(features, backend).filter(values)
    for one, value, expected in zip(features, values, out):
        single = PermutohedralLattice(one, backend).filter(value)
        torch.testing.assert_close(single, expected, atol=1e-5, rtol=1e-5)


@BACKENDS
def test_order_of_points_does_not_matter(backend: str) -> None:
    features, values = torch.rand(30, 3) * 4, torch.rand(30, 2)
    order = torch.randperm(30)
    out = PermutohedralLattice(features, backend).filter(values)
    shuffled = PermutohedralLattice(features[order], backend).filter(values[order])
    torch.testing.assert_close(shuffled, out[order], atol=1e-5, rtol=1e-5)


@BACKENDS
def test_one_point(backend: str) -> None:
    out = PermutohedralLattice(torch.zeros(1, 2), backend).filter(torch.tensor([[2.0, -1.0]]))
    assert out[0, 0] > 0
    torch.testing.assert_close(out[0, 1], -out[0, 0] / 2)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"backend 'cuda' is none of auto, torch, numba"):
        PermutohedralLattice(torch.zeros(2, 2), 'cuda')
    with pytest.raises(ValueError, match='too far; use larger standard deviations'):
        PermutohedralLattice(torch.rand(50, 5) * 1e5)
    with pytest.raises(ValueError, match='feature 0 is not finite'):
        PermutohedralLattice(torch.tensor([[torch.inf, 0.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match=r"'numba' needs tensors on the CPU"):
        choose_backend('numba', torch.device('meta'))
    assert choose_backend('auto', torch.device('meta')) == 'torch'
