"""File backend of mmengine whose files appear whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mmwsss.utils.files import replacing, write_text

WHOLE_FILES = dict(backend='mmwsss_whole_files')


@register_backend(WHOLE_FILES['backend'])
class WholeFileBackend(LocalBackend):
    """Local files that are written by :func:`~mmwsss.utils.files.replacing` and brought to the disk.

    Inside :meth:`removing_later` nothing is removed before all was written.
    """

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] | None = None

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write ``obj``; an error leaves the old file as it was."""
        with replacing(filepath) as temporary:
            temporary.write_bytes(obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write ``obj`` in UTF-8; an error leaves the old file as it was."""
        write_text(filepath, obj)

    def remove(self, filepath: str | Path) -> None:
        """Remove a file; later, unless another one has taken its place until then."""
        self._now_or_later(partial(self._remove, filepath, Path(filepath).stat().st_ino))

    def _remove(self, filepath: str | Path, inode: int) -> None:
        with suppress(FileNotFoundError):
            if Path(filepath).stat().st_ino == inode:
                super().remove(filepath)

    def rmtree(self, dir_path: str | Path) -> None:
        """Remove a folder."""
        self._now_or_later(partial(super().rmtree, dir_path))

    def _now_or_later(self, removal: Callable[[], None]) -> None:
        if self._waiting is None:
            removal()
        else:
            self._waiting.append(removal)

    @contextmanager
    def removing_later(self) -> Iterator[None]:
        """Put removals off to the end of the block; after an error nothing is removed."""
        if self._waiting is not None:
            yield
            return
        self._waiting = removals = []
        try:
            yield
        finally:
            self._waiting = None
        for removal in removals:
            removal()
