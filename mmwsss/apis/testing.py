"""Evaluation of a checkpoint from a command line tool."""

from __future__ import annotations

import pickle

from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader

from .launch import UsageError

# What torch.load raises on files of other kinds and on cut ones.
_UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, OSError, EOFError, KeyError, ValueError, AttributeError, ImportError,
)  # fmt: skip


def read_checkpoint(path: str) -> dict:
    """Content of the checkpoint ``path`` on the CPU.

    Raises:
        UsageError: the file is none.
    """
    try:
        content = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    except _UNREADABLE as error:
        raise UsageError(f'{path} cannot be read as a checkpoint; is it complete, and a file of torch?') from error
    if not isinstance(content, dict):
        raise UsageError(f'{path} is no checkpoint: expected a dict with weights, found {type(content).__name__}')
    return content


def run_test(runner: Runner, checkpoint: str) -> dict[str, float]:
    """Scores of ``runner.test()`` with the weights of ``checkpoint``, which its config names as ``load_from``.

    Raises:
        UsageError: the file is no checkpoint; or data, model and metrics do not fit together, which they report as
            ValueError.
    """
    try:
        return runner.test()
    except _UNREADABLE as error:
        if not runner._has_loaded:
            read_checkpoint(checkpoint)  # tells the reason where the file is the cause
        if not isinstance(error, ValueError):
            raise
        raise UsageError(one_line(error)) from error


def one_line(error: BaseException) -> str:
    """Message of ``error``; of one that a worker process sends with its traceback, the last line."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if 'Traceback' in str(error):
        return lines[-1].removeprefix('ValueError: ')
    return ' '.join(' '.join(lines).split()) or type(error).__name__
