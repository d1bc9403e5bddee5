"""Where the time of a training step goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch

ASSIGNMENT = 'assignment network'
FUSION = 'fusing its views'
LABELS = 'label operations (CPL, SPL)'
ONLINE = 'online forward'
LOSSES = 'losses'
ENERGY = 'energy loss'
BACKWARD = 'backward'
UPDATE = 'optimizer, moving average'
SECTIONS = (ASSIGNMENT, FUSION, LABELS, ONLINE, LOSSES, ENERGY, BACKWARD, UPDATE)


class Clock:
    """Seconds spent in each of the named sections; time inside a section within another counts for the inner one.

    Nothing is measured, and a GPU is never waited for, until ``running`` is set.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.running = False
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Count the time spent in this context for ``name``."""
        if not self.running:
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
        now = now_on(self.device)
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


def now_on(device: torch.device) -> float:
    """Seconds of a clock, once ``device`` has done its work."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()
