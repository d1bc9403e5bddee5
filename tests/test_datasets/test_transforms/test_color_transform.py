"""Colour augmentation against the standard library's colorsys and loops."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from mmwsss.datasets.transforms import ViewColorJitter, adjust_contrast, adjust_hue, adjust_saturation, to_gray
from mmwsss.utils import seeded


@pytest.fixture
def image() -> np.ndarray:
    image = np.random.default_rng(0).uniform(0, 255, (5, 7, 3)).astype(np.float32)
    image[0, 0], image[0, 1], image[0, 2] = 0, 120, (255, 0, 0)
    return image


def by_hsv(image: np.ndarray, change) -> np.ndarray:
    out = np.zeros(image.shape)
    for y, x in np.ndindex(*image.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*(image[y, x] / 255.0))
        out[y, x] = colorsys.hsv_to_rgb(*change(hue, saturation, value))
    return out * 255


@pytest.mark.parametrize('factor', [0.0, 0.5, 1.0, 3.0])
def test_saturation(image: np.ndarray, factor: float) -> None:
    expected = by_hsv(image, lambda h, s, v: (h, min(s * factor, 1), v))
    out = adjust_saturation(image, np.float32(factor))
    np.testing.assert_allclose(out, expected, atol=2e-3)
    assert out.dtype == np.float32


@pytest.mark.parametrize('delta', [-0.4, 0.0, 0.1, 1.0])
def test_hue(image: np.ndarray, delta: float) -> None:
    expected = by_hsv(image, lambda h, s, v: ((h + delta) % 1, s, v))
    out = adjust_hue(image, np.float32(delta))
    np.testing.assert_allclose(out, expected, atol=5e-3)
    assert out.dtype == np.float32


@pytest.mark.parametrize('factor', [0.0, 0.5, 2.0])
def test_contrast_is_about_the_mean_colour_and_not_clipped(image: np.ndarray, factor: float) -> None:
    mean = image.astype(np.float64).mean(axis=(0, 1))
    out = adjust_contrast(image, np.float32(factor))
    np.testing.assert_allclose(out, (image - mean) * factor + mean, atol=1e-3)
    if factor > 1:
        assert out.min() < 0
        assert out.max() > 255


def test_gray(image: np.ndarray) -> None:
    out = to_gray(image)
    np.testing.assert_allclose(out[..., 1], image.astype(np.float64) @ [0.2989, 0.587, 0.114], rtol=1e-5)
    assert (out == out[..., :1]).all()


def test_bgr_and_rgb_give_the_same_colours(image: np.ndarray) -> None:
    with seeded(1):
        rgb = ViewColorJitter(channel_order='rgb').jitter(image)
    with seeded(1):
        bgr = ViewColorJitter().jitter(image[..., ::-1])
    np.testing.assert_array_equal(bgr[..., ::-1], rgb)


def test_jitter_of_an_integer_image_leaves_it_alone_and_is_float() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    before = image.copy()
    results = ViewColorJitter(brightness=30).transform(dict(img=image))
    assert results['img'].dtype == np.float32
    assert results['img'].flags.c_contiguous
    np.testing.assert_array_equal(image, before)


def test_ranges_at_zero_are_the_identity(image: np.ndarray) -> None:
    still = dict(brightness=0, contrast=(1, 1), saturation=(1, 1), hue=0)
    np.testing.assert_allclose(ViewColorJitter(**still, gray_prob=0).jitter(image), image, atol=1e-3)
    gray = ViewColorJitter(**still, gray_prob=1).jitter(image)
    assert np.ptp(gray, axis=-1).max() < 1e-3


def test_unknown_channel_order() -> None:
    with pytest.raises(ValueError, match="'bgr' or 'rgb', got 'hsv'"):
        ViewColorJitter(channel_order='hsv')
