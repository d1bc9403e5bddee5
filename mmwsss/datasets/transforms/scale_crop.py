"""Random scale, padded crop and blur of the image that both views of CoSA share (CoSA, augmentation)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, ImageFilter

from mmwsss.registry import TRANSFORMS

from .pil import to_pil


def scaled_size(image_size: tuple[int, int], ratio: float) -> tuple[int, int]:
    """Both sides (H, W) times ``ratio``, rounded down and at least 1."""
    return tuple(max(int(ratio * side), 1) for side in image_size)


def resize_bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize ``image`` uint8 (H, W, 3) to uint8 (h, w, 3) with Pillow's bilinear filter, which smooths what shrinks."""
    return np.array(to_pil(image).resize(size[::-1], Image.Resampling.BILINEAR))


def resize_nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize ``mask`` (H, W) of any dtype to (h, w): each pixel takes the value under its centre."""
    rows, cols = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(mask.shape, size))
    return mask[rows[:, None], cols]


def sample_position(image_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Draw (top, left) of an image (H, W) inside a window (h, w), uniformly and independently per axis.

    An image that is smaller than the window lies wholly inside, one that is larger covers it, so the values are
    negative there.
    """
    slacks = [window - side for side, window in zip(image_size, size)]
    return tuple(int(np.sign(slack)) * int(np.random.randint(abs(slack) + 1)) for slack in slacks)


def covered_box(image_size: tuple[int, int], size: tuple[int, int], position: tuple[int, int]) -> np.ndarray:
    """Half-open box top, bottom, left, right, int16 (4,), of a window (h, w) that an image at ``position`` covers."""
    ends = ((start, start + side) for start, side in zip(position, image_size))
    spans = [np.clip(span, 0, window) for span, window in zip(ends, size)]
    return np.concatenate(spans).astype(np.int16)


def place_in_window(
    image: np.ndarray, size: tuple[int, int], position: tuple[int, int], fill: float | Sequence[float] = 0
) -> np.ndarray:
    """What a window (h, w) shows of ``image`` (H, W, ...) at ``position``, ``fill`` outside of it."""
    window = np.full((*size, *image.shape[2:]), fill, dtype=image.dtype)
    top, bottom, left, right = (int(edge) for edge in covered_box(image.shape[:2], size, position))
    shown = image[top - position[0] : bottom - position[0], left - position[1] : right - position[1]]
    window[top:bottom, left:right] = shown
    return window


@TRANSFORMS.register_module()
class RandomRatioScale(BaseTransform):
    """Scale image (Pillow's bilinear filter) and masks (nearest) by one random ratio (CoSA, augmentation).

    Args:
        ratio_range: (low, high) of the ratio, which is drawn uniformly.

    Raises:
        ValueError: the range is empty or not positive.
    """

    def __init__(self, ratio_range: tuple[float, float] = (0.5, 2.0)) -> None:
        low, high = ratio_range
        if not 0 < low <= high:
            raise ValueError(f'ratio_range has to be 0 < low <= high, got {ratio_range}')
        self.ratio_range = (low, high)

    def transform(self, results: dict) -> dict:
        """Scale ``img``, uint8 (H, W, 3), and ``seg_fields``; sets ``img_shape`` and ``scale_factor`` (x, y)."""
        old = results['img'].shape[:2]
        size = scaled_size(old, np.random.uniform(*self.ratio_range))
        results['img'] = resize_bilinear(results['img'], size)
        results['img_shape'] = size
        results['scale_factor'] = (size[1] / old[1], size[0] / old[0])
        for key in results.get('seg_fields', []):
            results[key] = resize_nearest(results[key], size)
        return results


@TRANSFORMS.register_module()
class RandomPadCrop(BaseTransform):
    """Cut a random window of fixed size; a side that is too small is padded at both ends (CoSA, augmentation).

    Sets ``img_box``, int16 (4,): top, bottom, left, right of the real pixels in the window, half open.

    Args:
        size: side of the square, or (height, width).
        pad_val: value of the padding, before normalisation, or one for each channel of the image as it was loaded. The
            mean colour of a float image becomes 0 in the data preprocessor.
        seg_pad_val: value of the padding of masks, the ignored label.

    Raises:
        ValueError: when called, an image of whole numbers cannot hold ``pad_val``.
    """

    def __init__(
        self, size: int | tuple[int, int], pad_val: float | Sequence[float] = 0, seg_pad_val: int = 255
    ) -> None:
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.pad_val = pad_val
        self.seg_pad_val = seg_pad_val

    def transform(self, results: dict) -> dict:
        """Crop ``img`` (H, W, 3) and ``seg_fields`` (H, W)."""
        old, dtype = results['img'].shape[:2], results['img'].dtype
        if np.issubdtype(dtype, np.integer) and np.any(np.asarray(self.pad_val) % 1):
            raise ValueError(
                f'RandomPadCrop: an image of {dtype} cannot hold pad_val={self.pad_val}; load it with to_float32=True'
            )
        position = sample_position(old, self.size)
        results['img'] = place_in_window(results['img'], self.size, position, self.pad_val)
        results['img_shape'] = self.size
        results['img_box'] = covered_box(old, self.size, position)
        results['flip_at_box'] = bool(results.get('flip', False))
        for key in results.get('seg_fields', []):
            results[key] = place_in_window(results[key], self.size, position, self.seg_pad_val)
        return results


def gaussian_blur(image: np.ndarray, radius: float) -> np.ndarray:
    """Blur ``image`` uint8 (H, W, 3) with Pillow's Gaussian of standard deviation ``radius`` in pixels."""
    return np.array(to_pil(image).filter(ImageFilter.GaussianBlur(radius)))


@TRANSFORMS.register_module()
class PILGaussianBlur(BaseTransform):
    """Blur some images with Pillow's Gaussian (CoSA, augmentation).

    Args:
        prob: probability of a blur.
        radius: (low, high) of the standard deviation in pixels, which is drawn uniformly.

    Raises:
        ValueError: ``prob`` is outside of [0, 1] or the range of ``radius`` is empty or negative.
    """

    def __init__(self, prob: float = 0.5, radius: tuple[float, float] = (0.1, 2.0)) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f'prob has to be in [0, 1], got {prob}')
        if not 0 <= radius[0] <= radius[1]:
            raise ValueError(f'radius has to be 0 <= low <= high, got {radius}')
        self.prob = prob
        self.radius = tuple(radius)

    def transform(self, results: dict) -> dict:
        """Blur ``img``, uint8 (H, W, 3)."""
        if np.random.random() < self.prob:
            results['img'] = gaussian_blur(results['img'], np.random.uniform(*self.radius))
        return results
