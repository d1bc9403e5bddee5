"""What the command line tools tell instead of a traceback, and with which status they end."""

from __future__ import annotations

import errno
import re

# Exit statuses of every tool, beside 0; those above 2 as sysexits.h and shells have them.
FAILED, USAGE, NO_SPACE, INTERRUPTED = 1, 2, 74, 130
_FULL = tuple(getattr(errno, name) for name in ('ENOSPC', 'EDQUOT') if hasattr(errno, name))
_LOST_PEER = re.compile(r'Connection closed by peer|Connection reset by peer|Broken pipe|Timed out waiting', re.I)
_LOADER = re.compile(r'DataLoader worker \(pid\(?s?\)?.*')


class UsageError(Exception):
    """What the user asked for cannot be done; the message is the one line to show."""


def explained(error: BaseException) -> tuple[int, str] | None:
    """Exit status and one line for a fault of the machine that no traceback makes clearer, None for other errors.

    These are a full disk, a process that loads data and was killed, and another process of the job that has gone.
    """
    if isinstance(error, OSError) and error.errno in _FULL:
        where = f' for {error.filename}' if error.filename else ''
        return NO_SPACE, (
            f'no space left on the disk{where}; files of before are whole: make room and start the same command again '
            '(of a training with --resume)'
        )
    if isinstance(error, RuntimeError):
        if found := _LOADER.search(str(error)):
            return FAILED, (
                f'a process that loads data has died ({found[0].rstrip(". ")}), often for want of memory; start the '
                'same command again (of a training with --resume), with fewer num_workers if it happens again'
            )
        if _LOST_PEER.search(str(error)):
            return FAILED, 'another process of this job has ended, see what it or the launcher says; this one ends too'
    return None
