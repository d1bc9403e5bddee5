"""Files that appear whole or not at all, and folders that one process holds."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from PIL import Image

try:
    import fcntl
except ImportError:  # not on this platform
    fcntl = None

PARTIAL = '.partial'


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` to write to; it takes the place of ``path`` when the block succeeds.

    Missing folders are made. After an error nothing is left; a killed process leaves a file that
    :func:`remove_partial_files` finds.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}-{threading.get_ident()}{PARTIAL}')
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_partial_files(folder: str | os.PathLike) -> int:
    """Remove what killed processes left of :func:`replacing` anywhere below ``folder``; returns how many files."""
    found = list(Path(folder).rglob(f'.*{PARTIAL}'))
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def remove_folder(folder: str | os.PathLike) -> None:
    """Remove ``folder`` and what is in it; nothing is done where it does not exist.

    Raises:
        OSError: something in it cannot be removed.
    """
    while os.path.exists(folder):
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:  # somebody else removed a part of it, the rest is still there
            continue


@contextmanager
def locked(path: str | os.PathLike) -> Iterator[None]:
    """Hold an exclusive lock on the file ``path`` inside the block; it ends with the process in any case.

    There is no lock on platforms without ``fcntl``, and on file systems that have none, which a warning says.

    Raises:
        BlockingIOError: somebody else holds it.
    """
    if fcntl is None:
        yield
        return
    with open(path, 'a') as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:
            text = f'{path} cannot be locked ({error}); start no second program on its folder'
            print_log(text, 'current', logging.WARNING)
            yield
            return
        try:
            yield
        finally:
            # Processes forked in the block share the lock and may live on.
            fcntl.flock(stream, fcntl.LOCK_UN)


def write_json(path: str | os.PathLike, content: Any) -> Path:
    """Write ``content`` as indented JSON, numpy and torch scalars as numbers, nan and infinity as null.

    Raises:
        TypeError: something in ``content`` has no JSON form; the old file stays.
    """
    text = json.dumps(jsonable(content), indent=2, ensure_ascii=False, allow_nan=False) + '\n'
    with replacing(path) as temporary:
        temporary.write_text(text, encoding='utf-8')
    return Path(path)


def jsonable(value: Any) -> Any:
    """``value`` made of what JSON has: tuples as lists, keys as text, scalars of numpy and torch as numbers."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(entry) for entry in value]
    if hasattr(value, 'item') and callable(value.item):  # numpy and torch scalars
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_palette_png(path: str | os.PathLike, mask: np.ndarray, palette: Sequence[Sequence[int]]) -> None:
    """Write ``mask`` (H, W) uint8 as a PNG of indices into ``palette``, RGB colours; further indices are black."""
    image = Image.fromarray(mask, mode='P')
    colours = np.zeros((256, 3), dtype=np.uint8)  # in full, as Pillow cuts values to the length of a shorter one
    colours[: len(palette)] = palette
    image.putpalette(colours.tobytes())
    with replacing(path) as temporary:
        image.save(temporary, format='PNG')


def file_sha256(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, 'rb') as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
