"""Files that appear whole or not at all, and folders that one process holds."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import re
import shutil
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PureWindowsPath
from typing import IO, Any

import numpy as np
from mmengine.logging import print_log
from PIL import Image

try:
    import fcntl
except ImportError:  # not on this platform
    fcntl = None

PARTIAL = '.partial'
_held: set[IO] = set()  # lock files that this process holds


@contextmanager
def replacing(path: str | os.PathLike, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` to write to; it takes the place of ``path`` when the block succeeds.

    Missing folders are made. After an error nothing is left; a killed process leaves a file that
    :func:`remove_partial_files` finds. An OSError that names no file, such as that of a full disk, gets ``path``.

    Args:
        durable: bring content and name to the disk, so that they outlast a loss of power. It takes milliseconds: for
            many small files :func:`sync_files` does it once for all.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}-{threading.get_ident()}{PARTIAL}')
    try:
        yield temporary
        if durable:
            _sync(temporary)
        os.replace(temporary, path)
        if durable:
            _sync(path.parent)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # on a broken disk the first error is the one to tell
            temporary.unlink(missing_ok=True)


def sync_files(paths: Iterable[str | os.PathLike]) -> None:
    """Bring the content of ``paths``, and their names in their folders, to the disk."""
    paths = [Path(path) for path in paths]
    for path in [*paths, *sorted({path.parent for path in paths})]:
        _sync(path)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == 'nt':
        return  # folders cannot be opened there
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno != errno.EINVAL:  # some file systems sync no folders
            raise
    finally:
        os.close(descriptor)


def remove_partial_files(folder: str | os.PathLike, below: bool = True) -> int:
    """Remove what killed processes left of :func:`replacing` in ``folder``, and anywhere ``below`` it.

    Returns:
        How many files.
    """
    search = Path(folder).rglob if below else Path(folder).glob
    found = list(search(f'.*{PARTIAL}'))
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

    The file says who holds it. There is no lock on platforms without ``fcntl``, and on file systems that have none,
    which a warning says.

    Raises:
        BlockingIOError: somebody else holds it; its ``strerror`` says who.
    """
    if fcntl is None:
        yield
        return
    with open(path, 'a+', encoding='utf-8') as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            holder = stream.read().strip() or 'a process that does not say its name'
            raise BlockingIOError(error.errno, holder, str(path)) from error
        except OSError as error:
            text = f'{path} cannot be locked ({error}); start no second program on its folder'
            print_log(text, 'current', logging.WARNING)
            yield
            return
        _held.add(stream)
        try:
            stream.truncate(0)
            stream.write(f'process {os.getpid()} on {socket.gethostname()}\n')
            stream.flush()
            yield
        finally:
            _held.discard(stream)
            if not stream.closed:
                fcntl.flock(stream, fcntl.LOCK_UN)


def _let_go() -> None:
    # A forked process, such as one that loads data, shares the locks and would hold them when its parent was killed.
    for stream in _held:
        stream.close()
    _held.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_let_go)


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Write ``text`` in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding='utf-8')
    return Path(path)


def write_json(path: str | os.PathLike, content: Any) -> Path:
    """Write ``content`` as indented JSON, numpy and torch scalars as numbers, nan and infinity as null.

    Raises:
        TypeError: something in ``content`` has no JSON form; the old file stays.
    """
    return write_text(path, json.dumps(jsonable(content), indent=2, ensure_ascii=False, allow_nan=False) + '\n')


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
    """Write ``mask`` (H, W) uint8 as a PNG of indices into ``palette``, RGB colours; further indices are black.

    One of many files, so it is not ``durable``, see :func:`replacing`.
    """
    image = Image.fromarray(mask, mode='P')
    colours = np.zeros((256, 3), dtype=np.uint8)  # in full, as Pillow cuts values to the length of a shorter one
    colours[: len(palette)] = palette
    image.putpalette(colours.tobytes())
    with replacing(path, durable=False) as temporary:
        image.save(temporary, format='PNG')


def leads_out(name: str) -> bool:
    """Whether ``name``, joined to a folder, names something outside of it: an absolute path, a drive, or with ``..``.

    >>> leads_out('cat/0001'), leads_out('../cat/0001'), leads_out('/cat'), leads_out('C:cat')
    (False, True, True, True)
    """
    parts = re.split(r'[/\\]', name)
    return parts[0] == '' or bool(PureWindowsPath(name).drive) or '..' in parts


def file_sha256(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, 'rb') as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
