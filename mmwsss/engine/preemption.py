"""Signals by which a cluster announces that it will end a training."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

PREEMPTED = 75  # exit status, EX_TEMPFAIL of sysexits.h: the same command goes on later
SIGNALS = tuple(getattr(signal, name) for name in ('SIGTERM', 'SIGUSR1') if hasattr(signal, name))
_received: list[int] = []
_watched: list[set[int]] = []  # signals that are blocked, where they are watched


class Preempted(Exception):
    """A training has ended early because it was asked to; the message says where it can go on."""


@contextmanager
def watched_signals() -> Iterator[None]:
    """Note :data:`SIGNALS` inside the block instead of dying of them; for the main thread of a program.

    Processes that load data are asked to end by the same signals where a cluster sends them to all. Those that are
    started inside the block are deaf to them, and are killed at its end.
    """
    if not hasattr(signal, 'pthread_sigmask'):
        yield
        return
    # Threads that were there before are not blocked, so that a signal can reach them: hence the handlers as well.
    before = {number: signal.signal(number, _note) for number in SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    _watched.append(set(SIGNALS) - mask)
    try:
        yield
    finally:
        _end_children()
        while pending := signal.sigpending() & _watched[-1]:
            signal.sigwait(pending)
        _watched.pop()
        _received.clear()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def forwarded_signals() -> Iterator[list[subprocess.Popen]]:
    """Send :data:`SIGNALS` on to the programs in the yielded list, which those that are started inside are put in."""
    programs: list[subprocess.Popen] = []

    def forward(number: int, frame: object) -> None:
        _note(number, frame)
        for program in programs:
            program.send_signal(number)

    before = {number: signal.signal(number, forward) for number in SIGNALS}
    try:
        yield programs
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received.clear()


def received_signal() -> str | None:
    """Name of a watched signal that this process was sent, None without one."""
    pending = signal.sigpending() & _watched[-1] if _watched else set()
    return next((signal.Signals(number).name for number in (*_received, *sorted(pending))), None)


def _note(number: int, frame: object) -> None:
    _received.append(number)


def _end_children() -> None:
    """Kill the processes that load data; they have nothing to lose, and the usual way to end them is blocked."""
    children = [child for child in multiprocessing.active_children() if child.daemon]
    if children:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch reports there a loader that was killed
    for child in children:
        child.kill()
    for child in children:
        child.join()
