"""Resizing with aligned corners, without keeping the aspect ratio."""

from __future__ import annotations

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from mmwsss.ops import resize_align_corners, resize_nearest_align_corners
from mmwsss.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeAlignCorners(BaseTransform):
    """Resize image (bilinear) and mask (nearest) to a fixed size with aligned corners, as ViT-PCM does.

    Args:
        size: side of the square, or (height, width).
        resize_mask: False keeps ``gt_seg_map`` at its original size, which is what evaluation compares with.
    """

    def __init__(self, size: int | tuple[int, int], resize_mask: bool = True) -> None:
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.resize_mask = resize_mask

    def transform(self, results: dict) -> dict:
        """Resize ``img`` to float32 and, if asked, ``gt_seg_map``."""
        results['img'] = resize_image(results['img'], self.size)
        results['img_shape'] = self.size
        if self.resize_mask:
            for key in results.get('seg_fields', []):
                results[key] = resize_mask(results[key], self.size)
        return results


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize ``image`` (H, W, C) bilinearly to float32 (h, w, C)."""
    planes = torch.from_numpy(np.require(image, requirements=('C', 'W'))).permute(2, 0, 1)[None].float()
    return np.ascontiguousarray(resize_align_corners(planes, size)[0].permute(1, 2, 0).numpy())


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize ``mask`` (H, W) to its nearest pixels (h, w)."""
    return resize_nearest_align_corners(torch.from_numpy(np.ascontiguousarray(mask)), size).numpy()
