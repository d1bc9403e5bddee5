"""Checks that the steps share, of their arguments and of the state they get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..labeler import LabelState


def check_positive(step: Any, *names: str) -> None:
    """Raise ValueError unless the named attributes of ``step`` are positive numbers."""
    _check(step, names, lambda value: value > 0, 'a number above 0')


def check_not_negative(step: Any, *names: str) -> None:
    """Raise ValueError unless the named attributes of ``step`` are numbers of at least 0."""
    _check(step, names, lambda value: value >= 0, 'a number of at least 0')


def check_fraction(step: Any, *names: str) -> None:
    """Raise ValueError unless the named attributes of ``step`` lie in [0, 1]."""
    _check(step, names, lambda value: 0 <= value <= 1, 'a number in [0, 1]')


def require_full_size(step: Any, state: LabelState) -> None:
    """Raise ValueError unless the maps of ``state`` have the size of the mask."""
    if tuple(state.maps.shape[-2:]) != tuple(state.size):
        raise ValueError(
            f'{type(step).__name__} needs maps of size {tuple(state.size)}, got {tuple(state.maps.shape[-2:])}; '
            'put Resize before it'
        )


def require_no_background(step: Any, state: LabelState) -> None:
    """Raise ValueError if the maps of ``state`` have a background channel."""
    if state.has_background:
        raise ValueError(
            f'{type(step).__name__} makes its own background but the maps have one; put DropBackground before it'
        )


def _check(step: Any, names: tuple[str, ...], holds: Callable[[float], bool], expected: str) -> None:
    for name in names:
        value = getattr(step, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not holds(value):
            raise ValueError(f'{name} of {type(step).__name__} is {value!r}; expected {expected}')
