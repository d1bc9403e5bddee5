"""Which checkpoint of a run is meant."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import torch

from .errors import UsageError

LAST, BEST = 'last_checkpoint', 'best'


def find_checkpoint(path: str, what: str = 'checkpoint') -> str:
    """Path of a checkpoint: ``path`` itself (URLs pass unseen) or, for a work dir, the latest checkpoint in it.

    ``WORK_DIR/best`` is the checkpoint with the best score of validation, see :func:`best_checkpoint`.

    Raises:
        UsageError: there is none; ``what`` names the argument it came from.
    """
    if '://' in path or os.path.isfile(path):
        return path
    if Path(path).name == BEST and (Path(path).parent / LAST).is_file():
        return best_checkpoint(str(Path(path).parent))
    if not os.path.isdir(path):
        raise UsageError(f'{what}: {path} does not exist')
    checkpoint = latest_checkpoint(path)
    if checkpoint is None:
        raise UsageError(f'{what}: the folder {path} has no {LAST}; name the checkpoint file')
    return checkpoint


def latest_checkpoint(work_dir: str) -> str | None:
    """Checkpoint that ``last_checkpoint`` in ``work_dir`` names, also after the folder was moved; None without one.

    Raises:
        UsageError: the checkpoint it names is missing.
    """
    pointer = Path(work_dir) / LAST
    if not pointer.is_file():
        return None
    return _existing(work_dir, pointer.read_text().strip(), str(pointer))


def best_checkpoint(work_dir: str) -> str:
    """Checkpoint with the best score of validation, the one that the latest checkpoint of ``work_dir`` names.

    ``CheckpointHook(save_best=...)`` notes it there. Files of the name ``best_*`` do not say it: one that was killed
    while it was replaced is none, and one of an earlier run may lie beside it.

    Raises:
        UsageError: there is no latest checkpoint, it cannot be read or names none, or that one is missing.
    """
    last = latest_checkpoint(work_dir)
    if last is None:
        raise UsageError(f'the folder {work_dir} has no {LAST}, which names the best one; name the checkpoint file')
    try:
        content = torch.load(last, map_location='cpu', mmap=True, weights_only=True)
        noted = content['message_hub']['runtime_info']
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, KeyError, ValueError, TypeError) as error:
        raise UsageError(f'{last} cannot be read as the checkpoint of a run ({type(error).__name__})') from error
    if 'best_ckpt' not in noted:
        raise UsageError(
            f'{last} names no best checkpoint; set default_hooks.checkpoint.save_best to one score in the config, or '
            'name the checkpoint file'
        )
    return _existing(work_dir, noted['best_ckpt'], last)


def _existing(work_dir: str, named: str, where: str) -> str:
    """The file ``named``, also after the folder was moved."""
    for candidate in (Path(work_dir) / Path(named).name, Path(named)):
        if candidate.is_file():
            return str(candidate)
    raise UsageError(f'{where} names {named}, which does not exist; name the checkpoint file')
