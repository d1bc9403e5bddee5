"""Enlarging where a reduction reads equals enlarging everywhere."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from mmwsss.ops import SampledResize
from mmwsss.ops.sampling import linear_matrix, sampling_matrices

half_pixel = partial(F.interpolate, mode='bilinear', align_corners=False)
# maps, full, out
SIZES = [
    ((4, 4), (32, 32), (4, 4)),
    ((2, 3), (32, 48), (4, 6)),
    ((6, 6), (32, 32), (4, 4)),
    ((5, 3), (35, 21), (5, 3)),
    ((7, 4), (33, 50), (5, 7)),
    ((1, 1), (16, 17), (2, 3)),
    ((9, 9), (9, 9), (9, 9)),
    ((9, 7), (9, 7), (4, 7)),
    ((3, 5), (12, 10), (12, 10)),
    ((8, 8), (5, 6), (3, 9)),
    ((3, 3), (20, 20), (1, 1)),
]


@pytest.mark.parametrize(
    ('n_in', 'n_out'), [(4, 32), (32, 4), (7, 33), (33, 7), (5, 5), (1, 6), (6, 1), (2, 3), (48, 4)]
)
def test_matrix_is_the_rule_of_torch(n_in: int, n_out: int) -> None:
    line = torch.randn(1, 1, n_in, 3)
    expected = half_pixel(line, (n_out, 3))[0, 0]
    torch.testing.assert_close(linear_matrix(n_in, n_out) @ line[0, 0], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(linear_matrix(n_in, n_out).sum(dim=1), torch.ones(n_out))


@pytest.mark.parametrize(('size', 'full', 'out'), SIZES)
def test_both_ways_equal_full_size(size, full, out) -> None:
    """With a softmax in between, which does not commute with resizing."""
    maps = 5 * torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    samples = SampledResize(full, out)
    between = samples.enlarge(maps)
    found = samples.reduce(between.softmax(dim=1))
    expected = half_pixel(half_pixel(maps, full).softmax(dim=1), out)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    assert all(read <= min(2 * small, large) for read, small, large in zip(between.shape[-2:], out, full))


def test_odd_factor_reads_one_pixel_of_each_axis() -> None:
    enlarge, reduce = sampling_matrices(5, 35, 5, torch.device('cpu'))
    assert enlarge.shape == (5, 5)
    assert torch.equal(reduce, torch.eye(5))
    assert sampling_matrices(4, 32, 4, torch.device('cpu'))[0].shape == (8, 4)


def test_equal_sizes_change_nothing() -> None:
    maps = torch.randn(2, 3, 6, 5)
    samples = SampledResize((6, 5), (6, 5))
    assert torch.equal(samples.enlarge(maps), maps)
    assert torch.equal(samples.reduce(maps), maps)


def test_leading_axes_and_autocast() -> None:
    maps = torch.randn(2, 3, 4, 5, 6)
    samples = SampledResize((40, 48), (5, 6))
    assert torch.equal(samples.enlarge(maps)[1], samples.enlarge(maps[1]))
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(samples.enlarge(maps), SampledResize((40, 48), (5, 6)).enlarge(maps))
        assert samples.enlarge(maps).dtype == torch.float32
