"""Peak memory of a process, where Linux tells it."""

from __future__ import annotations

from pathlib import Path

STATUS = Path('/proc/self/status')
RESET = Path('/proc/self/clear_refs')


def reset_peak() -> int | None:
    """Forget the peak of the past; returns the peak that counts from now on, None where it cannot be reset."""
    try:
        RESET.write_text('5')
    except OSError:
        return None
    return peak()


def peak() -> int | None:
    """Largest resident size of this process in bytes since the last reset, None where the system does not tell it."""
    try:
        # Not ru_maxrss: a child starts with its parent's peak there, and it cannot be reset.
        lines = STATUS.read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith('VmHWM'))
    except (OSError, StopIteration):
        return None
