"""Colour augmentation on float RGB images (H, W, 3) in 0..255 that is never clipped (ViT-PCM, sec. 2)."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform

from mmwsss.registry import TRANSFORMS

_GRAY = np.array([0.2989, 0.587, 0.114], dtype=np.float32)


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Scale the distance of each pixel from the mean colour of ``image`` (H, W, 3)."""
    mean = image.reshape(-1, image.shape[-1]).mean(axis=0, dtype=np.float64).astype(image.dtype)
    return (image - mean) * factor + mean


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Scale the HSV saturation of ``image`` (H, W, 3), limited to [0, 1], at constant hue and value.

    At constant hue and value each channel's distance from the largest one is proportional to the saturation, so no
    conversion to HSV is needed.
    """
    low, value = _extremes(image)
    chroma = value - low
    saturation = np.divide(chroma, value, out=np.zeros_like(chroma), where=value > 0)
    target = np.clip(saturation * factor, 0, 1) * value
    ratio = np.divide(target, chroma, out=np.zeros_like(chroma), where=chroma > 0)
    return value[..., None] - (value[..., None] - image) * ratio[..., None]


def adjust_hue(image: np.ndarray, delta: float) -> np.ndarray:
    """Turn the hue of ``image`` (H, W, 3) by ``delta`` of a full circle, at constant largest and smallest channel."""
    red, green, blue = np.moveaxis(image, -1, 0)
    low, high = _extremes(image)
    chroma = high - low
    safe = np.where(chroma > 0, chroma, 1)
    sextant = np.where(
        high == red, (green - blue) / safe, np.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    )
    sextant = (sextant + 6 * delta) % 6
    offsets = np.array([0, 4, 2], dtype=image.dtype)
    distance = np.abs((sextant[..., None] + offsets) % 6 - 3) - 1
    return low[..., None] + chroma[..., None] * np.clip(distance, 0, 1)


def _extremes(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # numpy reduces an axis of length 3 ten times slower than it compares three planes
    red, green, blue = np.moveaxis(image, -1, 0)
    return np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)


def to_gray(image: np.ndarray) -> np.ndarray:
    """Luma of RGB ``image`` (H, W, 3), repeated over three channels."""
    return np.repeat((image @ _GRAY)[..., None], 3, axis=-1)


@TRANSFORMS.register_module()
class ViewColorJitter(BaseTransform):
    """Jitter brightness, contrast, saturation and hue in this order, then turn some images gray (ViT-PCM, sec. 2).

    The default brightness of 0.2 is on the 0..255 scale and therefore inert, as in the official code.

    Args:
        brightness: largest shift, in grey levels.
        contrast, saturation: (low, high) of the factor.
        hue: largest turn, fraction of the circle.
        gray_prob: probability of a gray image.
        channel_order: order of the channels of ``results['img']``, 'bgr' after mmcv's loader.
    """

    def __init__(
        self,
        brightness: float = 0.2,
        contrast: tuple[float, float] = (0.5, 2.0),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue: float = 0.1,
        gray_prob: float = 0.1,
        channel_order: str = 'bgr',
    ) -> None:
        if channel_order not in ('bgr', 'rgb'):
            raise ValueError(f"channel_order has to be 'bgr' or 'rgb', got {channel_order!r}")
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self.gray_prob = gray_prob
        self.channel_order = channel_order

    def transform(self, results: dict) -> dict:
        """Jitter ``results['img']`` into float32."""
        results['img'] = self.jitter(results['img'])
        return results

    def jitter(self, image: np.ndarray) -> np.ndarray:
        """Jitter one image (H, W, 3)."""
        bgr = self.channel_order == 'bgr'
        image = image[..., ::-1] if bgr else image
        image = image.astype(np.float32) + np.float32(np.random.uniform(-self.brightness, self.brightness))
        image = adjust_contrast(image, np.float32(np.random.uniform(*self.contrast)))
        image = adjust_saturation(image, np.float32(np.random.uniform(*self.saturation)))
        image = adjust_hue(image, np.float32(np.random.uniform(-self.hue, self.hue)))
        if np.random.random() < self.gray_prob:
            image = to_gray(image)
        return np.ascontiguousarray(image[..., ::-1] if bgr else image, dtype=np.float32)
