"""Which checkpoint of a run is meant, and whether it is whole."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .errors import UsageError

LAST, BEST = 'last_checkpoint', 'best'
_NEEDED = ('meta', 'state_dict', 'message_hub', 'optimizer')  # to go on with a training
_NUMBERED = re.compile(r'(iter|epoch)_(\d+)\.pth')
# What torch.load raises on files of other kinds, cut ones and hostile ones.
UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, OSError, EOFError, KeyError, ValueError, AttributeError, ImportError,
    TypeError, IndexError, zipfile.BadZipFile,
)  # fmt: skip


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
        noted = _mapped(last)['message_hub']['runtime_info']
    except UNREADABLE as error:
        raise UsageError(f'{last} cannot be read as the checkpoint of a run ({type(error).__name__})') from error
    if 'best_ckpt' not in noted:
        raise UsageError(
            f'{last} names no best checkpoint; set default_hooks.checkpoint.save_best to one score in the config, or '
            'name the checkpoint file'
        )
    return _existing(work_dir, noted['best_ckpt'], last)


def resumable_checkpoint(work_dir: str, warn: Callable[[str], None]) -> str | None:
    """Newest whole checkpoint of the run in ``work_dir``; None where nothing was saved yet.

    It is the one that ``last_checkpoint`` names or, where that is damaged or missing, the one before it that is still
    there, which ``warn`` is told in one line.

    Raises:
        UsageError: none of them can be read.
    """
    pointer = Path(work_dir) / LAST
    if not pointer.is_file():
        return None
    named, problems = pointer.read_text(encoding='utf-8').strip(), []
    try:
        paths = [_existing(work_dir, named, str(pointer))]
    except UsageError as error:
        paths = []
        problems.append(str(error).partition(';')[0])
    for path in [*paths, *_older(work_dir, named)]:
        try:
            check_resumable(path)
        except UsageError as error:
            problems.append(str(error))
            continue
        if problems:
            warn(f'{"; ".join(problems)}: going on from {path} instead')
        return path
    raise UsageError(
        f'{work_dir} has no checkpoint to go on from: {"; ".join(problems)}; remove {pointer} to start anew there'
    )


def check_resumable(path: str) -> None:
    """Check that a training can go on from the file ``path``, whose every byte is read.

    Raises:
        UsageError: it is missing, damaged, holds other objects than numbers, or only weights.
    """
    content = check_checkpoint(path)
    missing = [key for key in _NEEDED if not isinstance(content, dict) or key not in content]
    if missing:
        raise UsageError(
            f'{path} is no checkpoint to go on from, it has no {missing[0]}; name one that a training saved, or start '
            'from its weights by --cfg-options load_from=FILE'
        )


def check_checkpoint(path: str) -> Any:
    """Content of the file ``path`` with tensors mapped from it, after a check of every byte; nothing in it is run.

    Raises:
        UsageError: it is missing, damaged, or holds other objects than numbers.
    """
    if not os.path.isfile(path):
        raise UsageError(f'{path} does not exist')
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:
                    raise UsageError(f'{path} is damaged')
        return _mapped(path)
    except UNREADABLE as error:
        if foreign := re.search(r'GLOBAL (\S+)', str(error)):
            raise UsageError(
                f'{path} holds {foreign[1]}, which is no part of a checkpoint; it was not run. Take a file from a '
                'source you trust'
            ) from error
        raise UsageError(f'{path} is damaged or no checkpoint') from error


def _mapped(path: str) -> Any:
    """Content of a file of torch, read without running anything in it."""
    return torch.load(path, map_location='cpu', mmap=zipfile.is_zipfile(path), weights_only=True)


def _older(work_dir: str, named: str) -> list[str]:
    """Checkpoints of the run in ``work_dir`` of fewer iterations or epochs than the one ``named``, the newest first."""
    newest = _NUMBERED.fullmatch(Path(named).name)
    for folder in (Path(work_dir), Path(named).parent):  # out_dir of the hook may be elsewhere
        numbered = [(found, path) for path in folder.glob('*.pth') if (found := _NUMBERED.fullmatch(path.name))]
        older = [
            (int(found[2]), str(path))
            for found, path in numbered
            if newest is None or (found[1] == newest[1] and int(found[2]) < int(newest[2]))
        ]
        if older:
            return [path for _, path in sorted(older, reverse=True)]
    return []


def _existing(work_dir: str, named: str, where: str) -> str:
    """The file ``named``, also after the folder was moved."""
    for candidate in (Path(work_dir) / Path(named).name, Path(named)):
        if candidate.is_file():
            return str(candidate)
    raise UsageError(f'{where} names {named}, which does not exist; name the checkpoint file')
