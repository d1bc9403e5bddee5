"""Steps that take pixels out of a decided mask."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from mmwsss.registry import PSEUDO_LABEL_STEPS

from ..ignore import decision_confidence, ignore_outside_boxes, ignore_uncertain
from ..labeler import LabelState, LabelStep
from ..normalize import as_single
from .checks import check_fraction, require_full_size


@PSEUDO_LABEL_STEPS.register_module()
@dataclass(frozen=True)
class IgnoreUncertain(LabelStep):
    """Ignore pixels whose class has a low score, see :func:`~mmwsss.pseudo_labels.decision_confidence`.

    Args:
        confidence: pixels with a lower score are ignored.
        ignore_index: value of ignored pixels.

    Raises:
        ValueError: ``confidence`` outside [0, 1]; when called, no mask yet or maps of another size.
    """

    confidence: float
    ignore_index: int = 255

    def __post_init__(self) -> None:
        check_fraction(self, 'confidence')

    def __call__(self, state: LabelState) -> LabelState:
        mask = _decided_mask(self, state)
        require_full_size(self, state)
        confidence = decision_confidence(as_single(state.maps), mask, state.has_background)
        return replace(state, mask=ignore_uncertain(mask, confidence, self.confidence, self.ignore_index))


@PSEUDO_LABEL_STEPS.register_module()
@dataclass(frozen=True)
class IgnoreOutsideBox(LabelStep):
    """Ignore the padding around the real pixels of each image; without boxes there is none.

    Args:
        ignore_index: value of ignored pixels.

    Raises:
        ValueError: when called, no mask yet.
    """

    ignore_index: int = 255

    def __call__(self, state: LabelState) -> LabelState:
        mask = _decided_mask(self, state)
        if state.boxes is None:
            return state
        return replace(state, mask=ignore_outside_boxes(mask, state.boxes, self.ignore_index))


def _decided_mask(step: Any, state: LabelState) -> Tensor:
    if state.mask is None:
        raise ValueError(f'{type(step).__name__} needs a decided mask, got none; put a step such as Decide before it')
    return state.mask
