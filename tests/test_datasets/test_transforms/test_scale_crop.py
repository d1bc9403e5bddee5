"""Random scale, padded crop and blur."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mmwsss.datasets.transforms import PILGaussianBlur, RandomPadCrop, RandomRatioScale
from mmwsss.datasets.transforms.scale_crop import (
    covered_box,
    place_in_window,
    resize_nearest,
    sample_position,
    scaled_size,
)
from mmwsss.registry import TRANSFORMS
from mmwsss.utils import seeded


def results_of(height: int, width: int) -> dict:
    """An image whose channels number its pixels from 1 on, and a mask that tells the same."""
    numbers = 1 + np.arange(height * width).reshape(height, width)
    assert numbers.max() < 255
    return dict(
        img=np.repeat(numbers[..., None], 3, axis=-1).astype(np.uint8),
        gt_seg_map=numbers.astype(np.uint8),
        seg_fields=['gt_seg_map'],
        img_shape=(height, width),
    )


def test_scaled_size_is_rounded_down_and_never_empty() -> None:
    assert scaled_size((40, 90), 1.66) == (66, 149)
    assert scaled_size((1, 300), 0.5) == (1, 150)


@pytest.mark.parametrize('ratio', [0.5, 1.0, 1.7])
def test_scale(ratio: float) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (31, 47, 3), dtype=np.uint8)
    mask = rng.choice([0, 7, 255], (31, 47)).astype(np.int64)
    step = TRANSFORMS.build(dict(type='RandomRatioScale', ratio_range=(ratio, ratio)))
    results = step.transform(dict(img=image, gt_seg_map=mask, seg_fields=['gt_seg_map']))
    size = (int(ratio * 31), int(ratio * 47))
    assert results['img_shape'] == results['img'].shape[:2] == results['gt_seg_map'].shape == size
    assert results['scale_factor'] == (size[1] / 47, size[0] / 31)
    expected = Image.fromarray(image[..., ::-1]).resize(size[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(results['img'], np.array(expected)[..., ::-1])
    expected = Image.fromarray(mask.astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST)
    np.testing.assert_array_equal(results['gt_seg_map'], np.array(expected))
    assert results['gt_seg_map'].dtype == mask.dtype


def test_ratios_fill_their_range() -> None:
    step = RandomRatioScale((0.5, 2.0))
    with seeded(0):
        sides = [step.transform(dict(img=np.zeros((100, 10, 3), np.uint8)))['img_shape'][0] for _ in range(200)]
    assert 50 <= min(sides) < 60
    assert 190 < max(sides) < 200


def test_nearest_of_identical_size_is_the_identity() -> None:
    mask = np.arange(35).reshape(5, 7)
    np.testing.assert_array_equal(resize_nearest(mask, (5, 7)), mask)


@pytest.mark.parametrize('ratio_range', [(0, 1), (2.0, 1.0), (-1, 1)])
def test_bad_ratios(ratio_range: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match='0 < low <= high'):
        RandomRatioScale(ratio_range)


def test_float_images_are_refused() -> None:
    with pytest.raises(TypeError, match='uint8 image'):
        RandomRatioScale().transform(dict(img=np.zeros((4, 4, 3), np.float32)))


@pytest.mark.parametrize('size', [8, (5, 20), 30])
@pytest.mark.parametrize('shape', [(12, 17), (6, 30), (8, 8), (20, 3)])
def test_pad_crop(shape: tuple[int, int], size: int | tuple[int, int]) -> None:
    window = (size, size) if isinstance(size, int) else size
    step = TRANSFORMS.build(dict(type='RandomPadCrop', size=size))
    with seeded(3):
        for _ in range(10):
            results = step.transform(results_of(*shape))
            image, mask = results['img'], results['gt_seg_map']
            assert results['img_shape'] == image.shape[:2] == mask.shape == window
            box = results['img_box']
            assert (box.dtype, box.shape) == (np.int16, (4,))
            top, bottom, left, right = box
            assert (bottom - top, right - left) == tuple(np.minimum(shape, window))
            inside = np.zeros(window, dtype=bool)
            inside[top:bottom, left:right] = True
            assert (image[~inside] == 0).all()
            assert (mask[~inside] == 255).all()
            np.testing.assert_array_equal(image[inside][:, 0], mask[inside])
            numbers = mask[top:bottom, left:right].astype(int)
            assert (np.diff(numbers, axis=1) == 1).all()
            assert (np.diff(numbers, axis=0) == shape[1]).all()


def test_masks_keep_their_type_and_padding_is_a_setting() -> None:
    results = results_of(3, 3)
    results['gt_seg_map'] = results['gt_seg_map'].astype(np.int64)
    results = RandomPadCrop(6, pad_val=9, seg_pad_val=77).transform(results)
    assert results['gt_seg_map'].dtype == np.int64
    assert (results['gt_seg_map'] == 77).sum() == 27
    assert (results['img'] == 9).all(axis=-1).sum() in (27, 28)


def test_positions_are_uniform_over_their_whole_range() -> None:
    with seeded(0):
        positions = np.array([sample_position((10, 4), (7, 8)) for _ in range(2000)])
    for axis, values in enumerate((range(-3, 1), range(5))):
        found, counts = np.unique(positions[:, axis], return_counts=True)
        assert found.tolist() == list(values)
        np.testing.assert_allclose(counts / 2000, 1 / len(values), atol=0.04)
    assert abs(np.corrcoef(positions.T)[0, 1]) < 0.1


def test_window_beside_the_image() -> None:
    image = np.ones((3, 3), np.uint8)
    assert covered_box((3, 3), (4, 4), (-9, 1)).tolist() == [0, 0, 1, 4]
    assert not place_in_window(image, (4, 4), (-9, 1)).any()
    assert place_in_window(image, (4, 4), (2, 1)).sum() == 6


@pytest.mark.parametrize('prob', [0.0, 1.0])
def test_blur(prob: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    step = TRANSFORMS.build(dict(type='PILGaussianBlur', prob=prob, radius=(1.3, 1.3)))
    out = step.transform(dict(img=image.copy()))['img']
    expected = np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1.3))) if prob else image
    np.testing.assert_array_equal(out, expected)
    assert out.dtype == np.uint8


def test_share_of_blurred_images() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    with seeded(0):
        blurred = [
            (PILGaussianBlur(radius=(1, 2)).transform(dict(img=image))['img'] != image).any() for _ in range(300)
        ]
    assert 0.4 < np.mean(blurred) < 0.6


@pytest.mark.parametrize('settings', [dict(prob=1.5), dict(radius=(2.0, 1.0)), dict(radius=(-1.0, 1.0))])
def test_bad_blur(settings: dict) -> None:
    with pytest.raises(ValueError, match='has to be'):
        PILGaussianBlur(**settings)


def test_draws_follow_the_seed_of_numpy_alone() -> None:
    steps = [RandomRatioScale(), RandomPadCrop(7), PILGaussianBlur()]

    def run() -> np.ndarray:
        np.random.seed(5)
        results = results_of(12, 17)
        for step in steps:
            results = step.transform(results)
        return results['img']

    np.testing.assert_array_equal(run(), run())
