"""Pillow's view of image arrays."""

from __future__ import annotations

import numpy as np
from PIL import Image


def to_pil(image: np.ndarray) -> Image.Image:
    """Pillow image of a uint8 array (H, W, 3), channels as they are.

    Raises:
        TypeError: the array is not uint8 (H, W, 3).
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise TypeError(
            f'expected a uint8 image (H, W, 3), got {image.dtype} {image.shape}; '
            'load it without to_float32 and resize with RandomRatioScale'
        )
    return Image.fromarray(image)
