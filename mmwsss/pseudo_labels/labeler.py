"""A chain of steps from localization maps to a pseudo mask, composed in a config."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmwsss.ops.channels import present_channels
from mmwsss.registry import PSEUDO_LABEL_STEPS


@dataclass(frozen=True)
class LabelState:
    """What a step receives and hands on.

    Args:
        maps: (B, C, h, w) float; C is K foreground classes, or K + 1 with the background in channel 0.
        has_background: whether channel 0 of ``maps`` is the background.
        size: (H, W) of the mask.
        images: (B, 3, H, W) RGB in 0..255, any dtype; None where no step needs them.
        labels: (B, K) multi-hot image labels over the foreground classes; None where they are unknown.
        boxes: (B, 4) top, bottom, left, right of the real pixels in an image padded to ``size``.
        bg_setting: background setting of :func:`~mmwsss.pseudo_labels.maps_to_mask` for steps without one of their own;
            the step that decides the mask leaves the one it used, None where there is no such number.
        mask: (B, H, W) int64, 255 where ignored; None until a step decides it.
    """

    maps: Tensor
    has_background: bool
    size: tuple[int, int]
    images: Tensor | None = None
    labels: Tensor | None = None
    boxes: Tensor | None = None
    bg_setting: float | None = 1.0
    mask: Tensor | None = None

    @property
    def present(self) -> Tensor | None:
        """(B, C) bool over the channels of ``maps``: classes the image labels allow, the background always."""
        return None if self.labels is None else present_channels(self.labels, self.maps.shape[1])


class LabelStep(ABC):
    """One step of a :class:`PseudoLabeler`: takes a :class:`LabelState` and returns the changed one.

    A step that ``decides`` sets the mask and leaves the maps as it found them, and so do those after it.
    """

    needs_images: ClassVar[bool] = False
    decides: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, state: LabelState) -> LabelState:
        """Return ``state`` with this step applied; the argument itself stays as it is."""


class PseudoLabeler:
    """Chain of registered steps; a segmentor, a hook and the export tool run the same object.

    Args:
        steps: configs of steps in ``PSEUDO_LABEL_STEPS``, applied in their order.

    Raises:
        ValueError: no step decides a mask.
    """

    def __init__(self, steps: Sequence[dict[str, Any] | LabelStep]) -> None:
        self.steps = [step if isinstance(step, LabelStep) else PSEUDO_LABEL_STEPS.build(step) for step in steps]
        if not any(step.decides for step in self.steps):
            names = ', '.join(type(step).__name__ for step in self.steps) or 'none'
            raise ValueError(f'no step decides a mask (steps: {names}); end the chain with a step such as Decide')

    @property
    def needs_images(self) -> bool:
        """Whether a step reads the images."""
        return any(step.needs_images for step in self.steps)

    @torch.no_grad()
    def __call__(self, state: LabelState) -> LabelState:
        """Run the chain on ``state``; the returned state has a ``mask`` (B, H, W) int64.

        Raises:
            ValueError: ``state`` has no images although a step needs them.
        """
        if state.images is None and self.needs_images:
            names = ', '.join(type(step).__name__ for step in self.steps if step.needs_images)
            raise ValueError(f'{names} of the pseudo labeler needs images, got none; give images by path')
        for step in self.steps:
            state = step(state)
        return state
