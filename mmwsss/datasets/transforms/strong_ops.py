"""The nine colour operations of CoSA's strong view, on RGB images with a magnitude of 0..9 (CoSA, augmentation)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import ImageEnhance, ImageOps

from mmwsss.registry import TRANSFORMS

from .pil import to_pil

_MAGNITUDES = 10  # each operation maps 0..10 onto its own range; 10 itself leaves posterize no bits


def identity(image: np.ndarray, magnitude: int) -> np.ndarray:
    """``image`` uint8 (H, W, 3) itself, whatever the magnitude."""
    return image


def auto_contrast(image: np.ndarray, magnitude: int) -> np.ndarray:
    """Stretch each channel of ``image`` uint8 (H, W, 3) to 0..255, whatever the magnitude."""
    return np.array(ImageOps.autocontrast(to_pil(image)))


def equalize(image: np.ndarray, magnitude: int) -> np.ndarray:
    """Flatten the histogram of each channel of ``image`` uint8 (H, W, 3), whatever the magnitude."""
    return np.array(ImageOps.equalize(to_pil(image)))


def solarize(image: np.ndarray, magnitude: int) -> np.ndarray:
    """Invert the values of ``image`` uint8 (H, W, 3) from a threshold on that rises with the magnitude."""
    return np.array(ImageOps.solarize(to_pil(image), min(int(magnitude * 256 / _MAGNITUDES), 255)))


def color(image: np.ndarray, magnitude: int) -> np.ndarray:
    """Scale the saturation of RGB ``image`` uint8 (H, W, 3) by 0.1 to 1.72."""
    return _enhance(ImageEnhance.Color, image, magnitude)


def contrast(image: np.ndarray, magnitude: int) -> np.ndarray:
    """Scale the distance of RGB ``image`` uint8 (H, W, 3) from its mean luma by 0.1 to 1.72."""
    return _enhance(ImageEnhance.Contrast, image, magnitude)


def brightness(image: np.ndarray, magnitude: int) -> np.ndarray:
    """Scale the values of ``image`` uint8 (H, W, 3) by 0.1 to 1.72."""
    return _enhance(ImageEnhance.Brightness, image, magnitude)


def sharpness(image: np.ndarray, magnitude: int) -> np.ndarray:
    """Scale the distance of ``image`` uint8 (H, W, 3) from its smoothed self by 0.1 to 1.72."""
    return _enhance(ImageEnhance.Sharpness, image, magnitude)


def posterize(image: np.ndarray, magnitude: int) -> np.ndarray:
    """Keep the 4 to 1 highest bits of the values of ``image`` uint8 (H, W, 3), fewer with a higher magnitude."""
    return np.array(ImageOps.posterize(to_pil(image), 4 - int(magnitude * 4 / _MAGNITUDES)))


def _enhance(enhancer: type, image: np.ndarray, magnitude: int) -> np.ndarray:
    return np.array(enhancer(to_pil(image)).enhance(magnitude * 1.8 / _MAGNITUDES + 0.1))


# Operations by name, each called as operation(RGB image uint8 (H, W, 3), magnitude) -> uint8 (H, W, 3).
STRONG_OPS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    operation.__name__: operation
    for operation in (
        identity,
        auto_contrast,
        equalize,
        solarize,
        color,
        contrast,
        brightness,
        sharpness,
        posterize,
    )
}


@TRANSFORMS.register_module()
class OneOfStrongAug(BaseTransform):
    """Add the strong view: the image after one operation, chosen uniformly (CoSA, augmentation).

    ``img`` stays the weak view; ``img_2``, uint8 of the same shape and geometry, is the strong one.

    Args:
        operations: names in :data:`STRONG_OPS` to choose from.
        magnitude: (lowest, highest), both included, of the integer that sets an operation's strength.
        channel_order: order of the channels of ``results['img']``, 'bgr' after mmcv's loader.

    Raises:
        ValueError: there is no operation or an unknown one, the magnitudes are not within 0..9, or the channel order
            is unknown.
    """

    def __init__(
        self,
        operations: tuple[str, ...] = tuple(STRONG_OPS),
        magnitude: tuple[int, int] = (1, 9),
        channel_order: str = 'bgr',
    ) -> None:
        unknown = [name for name in operations if name not in STRONG_OPS]
        if unknown or not operations:
            raise ValueError(f'operations has to name some of {tuple(STRONG_OPS)}, got {tuple(operations)}')
        if not 0 <= magnitude[0] <= magnitude[1] < _MAGNITUDES:
            raise ValueError(f'magnitude has to be 0 <= lowest <= highest < {_MAGNITUDES}, got {magnitude}')
        if channel_order not in ('bgr', 'rgb'):
            raise ValueError(f"channel_order has to be 'bgr' or 'rgb', got {channel_order!r}")
        self.operations = tuple(operations)
        self.magnitude = tuple(magnitude)
        self.channel_order = channel_order

    def transform(self, results: dict) -> dict:
        """Make ``img_2`` from ``img``, uint8 (H, W, 3)."""
        name = self.operations[np.random.randint(len(self.operations))]
        low, high = self.magnitude
        results['img_2'] = self.apply(results['img'], name, np.random.randint(low, high + 1))
        return results

    def apply(self, image: np.ndarray, name: str, magnitude: int) -> np.ndarray:
        """The view of ``image`` uint8 (H, W, 3), in its own channel order, that operation ``name`` makes."""
        if self.channel_order == 'rgb':
            return np.array(STRONG_OPS[name](image, magnitude))
        rgb = np.ascontiguousarray(image[..., ::-1])
        return np.ascontiguousarray(STRONG_OPS[name](rgb, magnitude)[..., ::-1])
