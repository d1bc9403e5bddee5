"""Resizing to a random length of the longer side (ACR, sec. 3)."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmwsss.registry import TRANSFORMS

from .scale_crop import resize_nearest


def long_side_size(image_size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """Size (H, W) whose longer side is ``long_side``; the other one is rounded and at least 1."""
    longest = max(image_size)
    return tuple(max(round(side * long_side / longest), 1) for side in image_size)


def resize_linear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize ``image`` (H, W, 3) to float32 (h, w, 3) with OpenCV's bilinear rule, which does not smooth."""
    return cv2.resize(image.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)


@TRANSFORMS.register_module()
class RandomResizeLong(BaseTransform):
    """Resize image (OpenCV's bilinear rule, float32) and masks (nearest) to a random length of the longer side (ACR).

    Args:
        long_range: (lowest, highest), both included, of the longer side in pixels, which is drawn uniformly.

    Raises:
        ValueError: the range is empty or not positive.
    """

    def __init__(self, long_range: tuple[int, int]) -> None:
        low, high = long_range
        if not 0 < low <= high:
            raise ValueError(f'long_range has to be 0 < lowest <= highest, got {long_range}')
        self.long_range = (low, high)

    def transform(self, results: dict) -> dict:
        """Resize ``img`` (H, W, 3) and ``seg_fields`` (H, W); sets ``img_shape`` and ``scale_factor`` (x, y)."""
        low, high = self.long_range
        old = results['img'].shape[:2]
        size = long_side_size(old, int(np.random.randint(low, high + 1)))
        results['img'] = resize_linear(results['img'], size)
        results['img_shape'] = size
        results['scale_factor'] = (size[1] / old[1], size[0] / old[0])
        for key in results.get('seg_fields', []):
            results[key] = resize_nearest(results[key], size)
        return results
