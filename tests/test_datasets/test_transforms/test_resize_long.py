"""Random length of the longer side, and padding with the mean colour."""

from __future__ import annotations

import numpy as np
import pytest

from mmwsss.datasets.transforms import RandomPadCrop, RandomResizeLong
from mmwsss.datasets.transforms.resize_long import long_side_size
from mmwsss.registry import TRANSFORMS
from mmwsss.utils import seeded

MEAN = (103.53, 116.28, 123.675)


@pytest.mark.parametrize(
    ('size', 'expected'), [((50, 71), (42, 60)), ((90, 40), (60, 27)), ((8, 8), (60, 60)), ((1, 500), (1, 60))]
)
def test_sizes(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert long_side_size(size, 60) == expected


def test_image_and_mask() -> None:
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, 10:] = 200
    mask = (image[..., 0] > 0).astype(np.int64)
    step = TRANSFORMS.build(dict(type='RandomResizeLong', long_range=(40, 40)))
    results = step.transform(dict(img=image, gt_seg_map=mask, seg_fields=['gt_seg_map']))
    assert results['img_shape'] == results['img'].shape[:2] == results['gt_seg_map'].shape == (20, 40)
    assert results['scale_factor'] == (2, 2)
    assert results['img'].dtype == np.float32
    np.testing.assert_allclose(results['img'][0, 18:22, 0], [0, 50, 150, 200])
    assert results['gt_seg_map'].dtype == np.int64
    np.testing.assert_array_equal(results['gt_seg_map'], np.repeat(mask, 2, 0).repeat(2, 1))


def test_lengths_fill_their_range() -> None:
    step = RandomResizeLong((30, 33))
    with seeded(0):
        sides = {step.transform(dict(img=np.zeros((5, 9, 3), np.uint8)))['img_shape'][1] for _ in range(100)}
    assert sides == {30, 31, 32, 33}


@pytest.mark.parametrize('long_range', [(0, 5), (9, 8)])
def test_bad_lengths(long_range: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match='0 < lowest <= highest'):
        RandomResizeLong(long_range)


def test_padding_with_the_mean_colour() -> None:
    image = np.full((3, 4, 3), 7, np.float32)
    results = RandomPadCrop(6, pad_val=MEAN).transform(dict(img=image))
    top, bottom, left, right = results['img_box']
    outside = np.ones((6, 6), bool)
    outside[top:bottom, left:right] = False
    assert outside.sum() == 24
    np.testing.assert_array_equal(results['img'][outside], np.broadcast_to(np.float32(MEAN), (24, 3)))
    assert (results['img'][~outside] == 7).all()


def test_whole_numbers_cannot_hold_the_mean_colour() -> None:
    with pytest.raises(ValueError, match='to_float32=True'):
        RandomPadCrop(6, pad_val=MEAN).transform(dict(img=np.zeros((3, 4, 3), np.uint8)))
