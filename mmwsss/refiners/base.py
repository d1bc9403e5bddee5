"""The one call signature of all refiners."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor


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
