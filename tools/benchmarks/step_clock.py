"""Where the time, or the arithmetic, of a training step goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch

DATA = 'data'
TEACHER = 'teacher'
STUDENT = 'student'
REFINE = 'refine'
LOSSES = 'losses'
BACKWARD = 'backward'
OPTIMIZER = 'optimizer'
SECTIONS = (DATA, TEACHER, STUDENT, REFINE, LOSSES, BACKWARD, OPTIMIZER)


class Clock:
    """What is spent in each of the named sections: seconds, or whatever else only grows.

    What is spent inside a section within another counts for the inner one, except that a teacher keeps all. Nothing is
    measured, and a GPU is never waited for, outside of :meth:`measure`.
    """

    def __init__(self) -> None:
        self._read: Callable[[], float] | None = None
        self._spent: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def measure(self, read: Callable[[], float]) -> Iterator[dict[str, float]]:
        """Measure inside this context; yields a dict of all sections that is filled meanwhile."""
        self._spent, self._read = dict.fromkeys(SECTIONS, 0.0), read
        try:
            yield self._spent
        finally:
            self._read = None

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Count what is spent in this context for ``name``."""
        if self._read is None or TEACHER in self._open:
            yield
            return
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Count every call of this method of the object ``owner`` for section ``name``."""
        call = getattr(owner, method)

        @wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.section(name):
                return call(*args, **kwargs)

        setattr(owner, method, timed)

    def _charge(self) -> None:
        now = self._read()
        if self._open:
            self._spent[self._open[-1]] += now - self._since
        self._since = now


def now_on(device: torch.device) -> float:
    """Seconds of a clock, once ``device`` has done its work."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()
