"""The one call signature of all refiners."""

from __future__ import annotations

from abc import ABC, abstractmethod
from numbers import Integral
from typing import ClassVar

from torch import Tensor


def check_inputs(images: Tensor, maps: Tensor, labels: Tensor | None = None) -> None:
    """Check that the inputs of a :class:`Refiner` belong together.

    Raises:
        ValueError: the images are not (B, 3, H, W), the maps not (B, C, h, w) or the labels not (B, K) for one B.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f'images are {tuple(images.shape)}; expected (B, 3, H, W) with RGB channels')
    if maps.ndim != 4 or len(maps) != len(images):
        raise ValueError(
            f'maps are {tuple(maps.shape)} for images of {tuple(images.shape)}; expected (B, C, h, w) with the same B'
        )
    if labels is not None and (labels.ndim != 2 or len(labels) != len(maps)):
        raise ValueError(
            f'labels are {tuple(labels.shape)} for maps of {tuple(maps.shape)}; expected (B, K), one row for each image'
        )


def check_whole(name: str, value: int, least: int) -> int:
    """Return ``value`` if it is a whole number of at least ``least``.

    Raises:
        ValueError: it is not; the message calls it ``name``.
    """
    if not isinstance(value, Integral) or value < least:
        raise ValueError(f'{name} is {value!r}; expected a whole number of at least {least}')
    return int(value)


class Refiner(ABC):
    """Makes maps follow the images; every refiner is called alike and is built from ``REFINERS``."""

    needs_background: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, images: Tensor, maps: Tensor, labels: Tensor | None = None) -> Tensor:
        """Refine ``maps`` on ``images``.

        Args:
            images: (B, 3, H, W) RGB in 0..255, any dtype.
            maps: (B, C, h, w) scores or probabilities, C foreground classes or C - 1 and the background in channel 0.
            labels: (B, K) multi-hot image labels over the K foreground classes, K = C or K = C - 1; channels of absent
                classes cost nothing and are 0 in the result.

        Returns:
            (B, C, H, W) float32.
        """
