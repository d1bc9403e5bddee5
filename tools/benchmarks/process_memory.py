"""Peak memory of a process."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path


def reset_peak() -> int | None:
    """Forget the peak of the past, where Linux allows it; returns the peak that counts from now on."""
    with suppress(OSError):
        Path('/proc/self/clear_refs').write_text('5')
    return peak()


def peak() -> int | None:
    """Largest resident size of this process in bytes."""
    try:
        # Not ru_maxrss: a child starts with its parent's peak there.
        lines = Path('/proc/self/status').read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith('VmHWM'))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == 'darwin' else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
