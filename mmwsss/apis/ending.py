"""How the command line tools end."""

from __future__ import annotations

import atexit
import logging
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from mmwsss.datasets.checks import DatasetError
from mmwsss.engine.hooks.non_finite_hook import NonFiniteLoss
from mmwsss.engine.preemption import PREEMPTED, Preempted

from .building import config_mistake
from .errors import FAILED, INTERRUPTED, USAGE, UsageError, explained

STATUS_FILE = 'MMWSSS_STATUS_FILE'  # names a file for the exit status, which the launcher of processes hides


def run_cli(main: Callable[[], None]) -> None:
    """Run ``main``; a mistake of the user ends the program with a message instead of a traceback, which names the
    process where it is not the first.

    Statuses: 0, :data:`~mmwsss.apis.errors.USAGE` after a mistake (in a config: :func:`.config_mistake`),
    :data:`~mmwsss.engine.preemption.PREEMPTED` where a training was asked to end and saved a checkpoint, those of
    :func:`~mmwsss.apis.errors.explained`, :data:`~mmwsss.apis.errors.INTERRUPTED` after Ctrl-C, and 1 with a traceback;
    without a word where the program that reads the output has left (``mmwsss list | head``).

    Processes of a distributed run wait for each other at the end and leave without the interpreter's teardown, in which
    threads of the process group that something still refers to can abort a run that is complete.
    """
    try:
        main()
        if sys.stdout is not None:  # closed by the caller (>&-)
            sys.stdout.flush()
        if _is_distributed():
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()
            _leave(0)
    except (UsageError, DatasetError) as error:
        _end(USAGE, f'error{{}}: {error}')
    except Preempted as stop:
        _end(PREEMPTED, str(stop))
    except NonFiniteLoss as stop:
        _end(FAILED, f'error{{}}: {stop}')
    except KeyboardInterrupt:
        _end(INTERRUPTED, 'interrupted{}')
    except (OSError, RuntimeError) as error:
        if isinstance(error, BrokenPipeError) and _reader_has_left():
            sys.exit(FAILED)
        told = explained(error)
        if told is None:
            raise
        _end(told[0], f'error{{}}: {told[1]}')
    except (TypeError, KeyError, ValueError) as error:
        told = config_mistake(error)
        if told is None:
            raise
        _end(USAGE, f'error{{}}: {told}')


def _end(status: int, message: str) -> None:
    """End with ``status`` after ``message``, in which braces stand for the process where it is not the first.

    Processes stop together when they are preempted, and the first one says so.
    """
    rank = env_rank()
    if status != PREEMPTED or rank == 0:
        print(message.replace('{}', f' on rank {rank}' if rank else '', 1), file=sys.stderr, flush=True)
    path = os.environ.get(STATUS_FILE)
    if path and status != FAILED:  # torchrun says that itself, and others fail when the one that knows why has left
        Path(path).write_text(str(status))
    if status == USAGE or not _is_distributed():
        sys.exit(status)
    _leave(status)


def _reader_has_left() -> bool:
    """Whether nobody reads the standard output any more; what is left in its buffer is then dropped."""
    if sys.__stdout__ is None:
        return False
    poll = select.poll()
    poll.register(sys.__stdout__, 0)
    left = any(event & select.POLLERR for _, event in poll.poll(0))
    if left:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # the interpreter flushes at its end
    return left


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _leave(status: int) -> None:
    """End this process after its exit handlers, without destroying what the interpreter holds."""
    atexit._run_exitfuncs()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def env_rank() -> int:
    """Rank of this process as the launcher announces it."""
    names = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')
    return int(next((os.environ[name] for name in names if name in os.environ), 0))
