"""Progress of long work over images, on a terminal and in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_INTERVAL = 30.0


@contextmanager
def counted(title: str, total: int, shown: bool = True) -> Iterator[Callable[[], None]]:
    """Function that counts one image and shows on stderr how many of ``total`` are done and how long the rest takes.

    A terminal gets a bar; a file or pipe gets a plain line every :data:`PLAIN_INTERVAL` seconds. What is written after
    the block begins a line of its own, also after an error.
    """
    if not shown:
        yield lambda: None
    elif not sys.stderr.isatty():
        yield _PlainCount(title, total)
    else:
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn('left'), TimeRemainingColumn())
        with Progress(TextColumn(escape(title)), *columns, console=Console(stderr=True)) as progress:
            task = progress.add_task('', total=total)
            yield lambda: progress.advance(task)


class _PlainCount:
    def __init__(self, title: str, total: int) -> None:
        self.title = title
        self.total = total
        self.done = 0
        self.start = self.said = time.monotonic()

    def __call__(self) -> None:
        self.done += 1
        now = time.monotonic()
        if now - self.said < PLAIN_INTERVAL:
            return
        self.said = now
        eta = timedelta(seconds=round((now - self.start) / self.done * (self.total - self.done)))
        print(f'{self.title}: {self.done}/{self.total}, {eta} left', file=sys.stderr, flush=True)
