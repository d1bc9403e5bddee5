"""Progress of an evaluation, on a terminal and in a log file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mmengine.utils import ProgressBar

PLAIN_LINES = 10


@contextmanager
def counted(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Function that counts one image and shows on stderr how many of ``total`` are done.

    A terminal gets a bar; a file or pipe gets :data:`PLAIN_LINES` plain lines. What is written after the block begins a
    line of its own, also after an error.
    """
    print(f'{title}: {total} images', file=sys.stderr, flush=True)
    if not sys.stderr.isatty():
        yield _PlainCount(title, total)
        return
    bar = ProgressBar(total, start=False, file=sys.stderr)

    def count() -> None:
        if not bar.completed:  # not before: loading weights prints, too
            bar.start()
        bar.update()

    try:
        yield count
    finally:
        if bar.completed:
            print(file=sys.stderr, flush=True)


class _PlainCount:
    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.done = title, total, 0

    def __call__(self) -> None:
        self.done += 1
        if self.done * PLAIN_LINES // self.total > (self.done - 1) * PLAIN_LINES // self.total:
            print(f'{self.title}: {self.done}/{self.total}', file=sys.stderr, flush=True)
