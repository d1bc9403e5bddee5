"""Resizing rules against loops in float64 and against scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.transform import resize as skimage_resize
from torch.autograd import gradcheck

from mmwsss.ops import (
    halfpixel_matrix,
    resize_align_corners,
    resize_matrices,
    resize_mirror,
    resize_nearest_align_corners,
    tf_bicubic_matrix,
)


def bilinear_align_corners(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    out = np.zeros(size)
    for i, j in np.ndindex(*size):
        y, x = (o * (n - 1) / max(m - 1, 1) for o, n, m in zip((i, j), plane.shape, size))
        for row in range(plane.shape[0]):
            for col in range(plane.shape[1]):
                out[i, j] += plane[row, col] * max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - col))
    return out


@pytest.mark.parametrize('size', [(7, 3), (2, 9), (4, 5)])
def test_bilinear_with_aligned_corners(size: tuple[int, int]) -> None:
    plane = np.random.default_rng(0).random((4, 5))
    out = resize_align_corners(torch.from_numpy(plane)[None, None], size)
    np.testing.assert_allclose(out[0, 0].numpy(), bilinear_align_corners(plane, size), atol=1e-12)


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int64, torch.float32])
def test_nearest_keeps_dtype_and_follows_the_rule(dtype: torch.dtype) -> None:
    mask = torch.arange(35).reshape(5, 7).to(dtype)
    for size in [(9, 4), (5, 7), (1, 1), (13, 20)]:
        out = resize_nearest_align_corners(mask, size)
        assert out.dtype == dtype
        for i, j in np.ndindex(*size):
            y, x = (math.floor(o * (n - 1) / (m - 1) + 0.5) if m > 1 else 0 for o, n, m in zip((i, j), (5, 7), size))
            assert out[i, j] == mask[y, x]


def test_nearest_works_on_leading_dimensions() -> None:
    masks = torch.randint(0, 9, (2, 3, 5, 7))
    out = resize_nearest_align_corners(masks, (3, 4))
    assert torch.equal(out[1, 2], resize_nearest_align_corners(masks[1, 2], (3, 4)))


def bicubic_row(n_in: int, n_out: int, o: int) -> np.ndarray:
    """Keys' kernel with a = -0.5, border taps dropped, weights renormalised; written from its definition."""
    x = (o + 0.5) * n_in / n_out - 0.5
    base = math.floor(x)
    row = np.zeros(n_in)
    for tap in range(base - 1, base + 3):
        d = abs(base + round((x - base) * 1024) / 1024 - tap)
        weight = 1.5 * d**3 - 2.5 * d**2 + 1 if d <= 1 else -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0
        if 0 <= tap < n_in:
            row[tap] += weight
    return row / row.sum()


@pytest.mark.parametrize(('n_in', 'n_out'), [(4, 9), (24, 14), (6, 6), (3, 3), (1, 4)])
def test_tf_bicubic(n_in: int, n_out: int) -> None:
    expected = np.stack([bicubic_row(n_in, n_out, o) for o in range(n_out)])
    np.testing.assert_allclose(tf_bicubic_matrix(n_in, n_out).numpy(), expected, atol=1e-6)


def test_tf_bicubic_is_not_the_rule_of_torch() -> None:
    x = torch.randn(1, 1, 6, 6)
    ours = resize_matrices(x, tf_bicubic_matrix(6, 15), tf_bicubic_matrix(6, 15))
    theirs = F.interpolate(x, size=(15, 15), mode='bicubic', align_corners=False)
    assert (ours - theirs).abs().max() > 0.02
    assert torch.equal(tf_bicubic_matrix(5, 5), torch.eye(5))


@pytest.mark.parametrize('size', [(11, 9), (3, 4), (5, 12), (5, 7)])
def test_mirrored_resize_is_that_of_scikit_image(size: tuple[int, int]) -> None:
    plane = np.random.default_rng(1).random((5, 7))
    # each axis on its own: scikit-image smooths the axes that shrink
    expected = skimage_resize(plane, size, order=1, mode='reflect', anti_aliasing=True)
    np.testing.assert_allclose(resize_mirror(torch.from_numpy(plane), size).numpy(), expected, atol=2e-6)


def test_matrices_keep_constants_and_take_a_single_pixel() -> None:
    for matrix in (halfpixel_matrix(7, 3), halfpixel_matrix(3, 8), tf_bicubic_matrix(7, 3)):
        torch.testing.assert_close(matrix.sum(dim=1), torch.ones(len(matrix)))
    assert torch.equal(halfpixel_matrix(1, 3), torch.ones(3, 1))


def test_resize_matrices_gradient_and_dtype() -> None:
    rows, cols = torch.rand(3, 4, dtype=torch.float64), torch.rand(2, 5, dtype=torch.float64)
    x = torch.rand(2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda z: resize_matrices(z, rows, cols), x)
    plane = torch.rand(4, 5)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = resize_matrices(plane, rows, cols)
    assert torch.equal(out, resize_matrices(plane, rows, cols))
    assert resize_matrices(plane.bfloat16(), rows, cols).dtype == torch.bfloat16
