"""Resizing of images and masks with aligned corners."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmwsss.datasets.transforms import ResizeAlignCorners


@pytest.mark.parametrize('size', [12, (6, 10), (20, 3)])
def test_image_and_mask(size: int | tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    mask = rng.choice([0, 3, 255], (7, 9)).astype(np.uint8)
    results = ResizeAlignCorners(size).transform(dict(img=image, gt_seg_map=mask, seg_fields=['gt_seg_map']))
    height, width = (size, size) if isinstance(size, int) else size
    assert results['img_shape'] == (height, width)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].double()
    expected = F.interpolate(planes, (height, width), mode='bilinear', align_corners=True)[0].permute(1, 2, 0)
    np.testing.assert_allclose(results['img'], expected.numpy(), atol=1e-3)
    assert results['img'].dtype == np.float32
    resized = results['gt_seg_map']
    assert resized.shape == (height, width)
    assert resized.dtype == np.uint8
    assert set(np.unique(resized)) <= {0, 3, 255}
    for row, col in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert resized[row, col] == mask[row, col]


def test_mask_of_an_evaluation_keeps_its_size() -> None:
    results = dict(img=np.zeros((4, 4, 3), np.uint8), gt_seg_map=np.zeros((4, 4), np.uint8), seg_fields=['gt_seg_map'])
    results = ResizeAlignCorners(8, resize_mask=False).transform(results)
    assert results['img'].shape == (8, 8, 3)
    assert results['gt_seg_map'].shape == (4, 4)


def test_without_masks() -> None:
    assert ResizeAlignCorners(2).transform(dict(img=np.ones((4, 4, 3))))['img'].shape == (2, 2, 3)
