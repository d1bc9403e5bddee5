"""The operations of the strong view against their definitions, and the choice among them."""

from __future__ import annotations

import numpy as np
import pytest

from mmwsss.datasets.transforms import STRONG_OPS, OneOfStrongAug
from mmwsss.registry import TRANSFORMS
from mmwsss.utils import seeded


@pytest.fixture
def image() -> np.ndarray:
    image = np.random.default_rng(0).integers(30, 220, (20, 24, 3), dtype=np.uint8)
    image[:4] = 30
    return image


def test_there_are_nine(image: np.ndarray) -> None:
    assert len(STRONG_OPS) == 9
    before = image.copy()
    for name, operation in STRONG_OPS.items():
        for magnitude in range(10):
            out = operation(image, magnitude)
            assert (out.shape, out.dtype) == (image.shape, np.uint8), name
    np.testing.assert_array_equal(image, before)


def test_operations_without_magnitude(image: np.ndarray) -> None:
    for name in ('identity', 'auto_contrast', 'equalize'):
        np.testing.assert_array_equal(STRONG_OPS[name](image, 1), STRONG_OPS[name](image, 9))
    np.testing.assert_array_equal(STRONG_OPS['identity'](image, 3), image)
    stretched = STRONG_OPS['auto_contrast'](image, 3)
    assert (stretched.min(axis=(0, 1)) == 0).all()
    assert (stretched.max(axis=(0, 1)) == 255).all()


@pytest.mark.parametrize('magnitude', [0, 1, 5, 9])
def test_solarize_and_posterize(image: np.ndarray, magnitude: int) -> None:
    threshold = min(int(magnitude * 25.6), 255)
    expected = np.where(image < threshold, image, 255 - image)
    np.testing.assert_array_equal(STRONG_OPS['solarize'](image, magnitude), expected)
    bits = 4 - int(magnitude * 0.4)
    np.testing.assert_array_equal(STRONG_OPS['posterize'](image, magnitude), image >> (8 - bits) << (8 - bits))


@pytest.mark.parametrize('magnitude', [1, 5, 9])
def test_enhancements_scale_a_distance(image: np.ndarray, magnitude: int) -> None:
    factor = 0.18 * magnitude + 0.1
    luma = image.astype(float) @ [0.299, 0.587, 0.114]
    bases = dict(color=luma[..., None], contrast=np.full_like(luma, luma.mean())[..., None], brightness=0.0)
    for name, base in bases.items():
        expected = np.clip(base + factor * (image - base), 0, 255)
        np.testing.assert_allclose(STRONG_OPS[name](image, magnitude), expected, atol=2, err_msg=name)


def test_strong_view(image: np.ndarray) -> None:
    step = TRANSFORMS.build(dict(type='OneOfStrongAug', operations=('solarize',), magnitude=(5, 5)))
    results = step.transform(dict(img=image.copy()))
    np.testing.assert_array_equal(results['img'], image)
    np.testing.assert_array_equal(results['img_2'], STRONG_OPS['solarize'](image, 5))
    assert results['img_2'].flags.c_contiguous


@pytest.mark.parametrize('order', ['bgr', 'rgb'])
def test_identity_does_not_share_memory(image: np.ndarray, order: str) -> None:
    results = OneOfStrongAug(('identity',), channel_order=order).transform(dict(img=image))
    np.testing.assert_array_equal(results['img_2'], image)
    assert not np.shares_memory(results['img_2'], image)


@pytest.mark.parametrize('name', list(STRONG_OPS))
def test_bgr_and_rgb_give_the_same_colours(image: np.ndarray, name: str) -> None:
    rgb = OneOfStrongAug(channel_order='rgb').apply(image, name, 2)
    bgr = OneOfStrongAug().apply(image[..., ::-1], name, 2)
    np.testing.assert_array_equal(bgr[..., ::-1], rgb)


def test_choices_are_uniform(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []
    monkeypatch.setattr(OneOfStrongAug, 'apply', lambda self, image, *choice: chosen.append(choice))
    step = OneOfStrongAug()
    with seeded(0):
        for _ in range(9 * 400):
            step.transform(dict(img=image))
    for values, expected in zip(zip(*chosen), (sorted(STRONG_OPS), list(range(1, 10)))):
        found, counts = np.unique(values, return_counts=True)
        assert found.tolist() == expected
        np.testing.assert_allclose(counts / 400, 1, atol=0.2)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(operations=('identity', 'invert')), 'operations has to name some of'),
        (dict(operations=()), 'operations has to name some of'),
        (dict(magnitude=(5, 4)), 'magnitude has to be'),
        (dict(magnitude=(1, 10)), 'magnitude has to be'),
        (dict(channel_order='hsv'), "'bgr' or 'rgb', got 'hsv'"),
    ],
)
def test_bad_settings(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OneOfStrongAug(**settings)


def test_float_images_are_refused(image: np.ndarray) -> None:
    with pytest.raises(TypeError, match='uint8 image'):
        OneOfStrongAug(('equalize',)).transform(dict(img=image.astype(np.float32)))
