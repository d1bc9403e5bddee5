"""Normalisation of maps against loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from mmwsss.pseudo_labels import divide_no_nan, mask_maps_with_labels, peak_normalize


def masked_maps(maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
    out = np.zeros_like(maps)
    for b, c in np.ndindex(*labels.shape):
        peak = maps[b, c].max()
        if labels[b, c] and peak:
            out[b, c] = maps[b, c] / peak
    for b, y, x in np.ndindex(len(maps), *maps.shape[2:]):
        total = out[b, :, y, x].sum()
        if total:
            out[b, :, y, x] /= total
    return out


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
def test_division_by_zero_gives_zero_in_values_and_gradients(dtype: torch.dtype) -> None:
    a = torch.tensor([1.0, 0.0, 3.0], dtype=dtype, requires_grad=True)
    b = torch.tensor([0.0, 0.0, 2.0], dtype=dtype, requires_grad=True)
    out = divide_no_nan(a, b)
    assert out.tolist() == [0, 0, 1.5]
    assert out.dtype == dtype
    out.sum().backward()
    assert a.grad.tolist() == [0, 0, 0.5]
    assert b.grad.tolist() == [0, 0, -0.75]


def test_peak_is_one_and_an_empty_map_stays_zero() -> None:
    maps = torch.rand(2, 3, 4, 5)
    maps[0, 1] = 0
    out = peak_normalize(maps)
    peaks = out.amax(dim=(-2, -1))
    assert peaks[0, 1] == 0
    peaks[0, 1] = 1
    torch.testing.assert_close(peaks, torch.ones(2, 3))
    torch.testing.assert_close(out[1, 2], maps[1, 2] / maps[1, 2].max())


def test_masked_maps_match_the_definition() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((2, 4, 3, 5))
    maps[0, :, 1, 2] = 0
    maps[1, 2] = 0
    labels = np.array([[1, 0, 1, 0], [0, 0, 1, 1]], dtype=np.float64)
    out = mask_maps_with_labels(torch.from_numpy(maps), torch.from_numpy(labels))
    np.testing.assert_allclose(out.numpy(), masked_maps(maps, labels), atol=1e-12)
    assert (out[0, [1, 3]] == 0).all()
    assert (out[0, :, 1, 2] == 0).all()


def test_no_present_class_gives_zero_maps() -> None:
    out = mask_maps_with_labels(torch.rand(1, 3, 2, 2), torch.zeros(1, 3))
    assert torch.equal(out, torch.zeros(1, 3, 2, 2))


def test_gradients() -> None:
    maps = torch.rand(1, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1, 0, 1]], dtype=torch.float64)
    assert gradcheck(peak_normalize, maps)
    assert gradcheck(lambda m: mask_maps_with_labels(m, labels), maps)
