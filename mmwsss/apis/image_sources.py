"""Images of every kind that inference takes: files, folders, patterns, URLs, arrays, and collections of these."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse
from urllib.request import url2pathname

import numpy as np
from mmengine import fileio
from PIL import Image, ImageOps

from mmwsss.datasets.checks import Problem, map_threads, scan_item
from mmwsss.utils.images import UNREADABLE, decode_image

from .errors import UsageError

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')
ORDERS = ('bgr', 'rgb')
_UNREADABLE = (*UNREADABLE, AssertionError, HTTPException)  # mmcv asserts that OpenCV returned something
_MAX_NAMED = 3


class UnreadableImage(ValueError):
    """An image that is missing or cannot be decoded; ``problem`` says which and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f'{problem.item}: {problem.detail}')
        self.problem = problem


@dataclass(frozen=True)
class ImageSource:
    """One image that is not read yet.

    Args:
        name: id of the image, after which its output files are named: the file name without its suffix, below a folder
            the path in it, ``image_00003`` for the fourth image where that is an array.
        path: of a local file; None for a URL or an array.
        content: the URL, or the array (H, W, 3) uint8 in BGR.
    """

    name: str
    path: str | None = None
    content: np.ndarray | str | None = None

    def read(self) -> np.ndarray:
        """The image (H, W, 3) uint8 in BGR, turned as its EXIF tag says.

        Raises:
            UnreadableImage: it is missing or cannot be decoded.
        """
        if isinstance(self.content, np.ndarray):
            return self.content
        with naming_unreadable(self):
            return decode_image(fileio.get(self.path or self.content))

    @property
    def where(self) -> str:
        """Path, URL, or for an array its name."""
        return self.path or (self.content if isinstance(self.content, str) else self.name)


class naming_unreadable:
    """Context in which whatever reading an image raises becomes an :class:`UnreadableImage`."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, _UNREADABLE):
            what = 'missing image' if isinstance(error, FileNotFoundError) else 'unreadable image'
            detail = 'no such file' if isinstance(error, FileNotFoundError) else ' '.join(str(error).split())
            raise UnreadableImage(Problem(what, self.source.where, detail or type(error).__name__)) from error


def image_sources(images: Any, channel_order: str = 'bgr') -> Iterator[ImageSource]:
    """The images that ``images`` stands for, one after the other; a generator is asked for one at a time.

    Args:
        images: path of a file or folder (all images in and below it, by name), pattern with ``*``, ``file://`` or other
            URL that mmengine reads, array (H, W, 3) or (N, H, W, 3) uint8, ``PIL.Image``, or an iterable of
            these.
        channel_order: of arrays, 'bgr' as OpenCV and mmcv read them, or 'rgb'.

    Raises:
        UsageError: something else is among them, a folder or pattern has no images, or an array has another shape.
    """
    if channel_order not in ORDERS:
        raise UsageError(f'channel_order has to be one of {ORDERS}, got {channel_order!r}')
    count, lazy = 0, is_lazy(images)
    for entry in _flat(images):
        if lazy and isinstance(entry, np.ndarray):
            entry = entry.copy()  # frames of a video may share memory, and are read ahead
        for source in _entry_sources(entry, channel_order, count):
            count += 1
            yield source


def is_lazy(images: Any) -> bool:
    """Whether ``images`` can only be iterated once, so that nothing can be checked before."""
    return isinstance(images, Iterator)


def unreadable(sources: Sequence[ImageSource]) -> list[Problem]:
    """Problems of the local files among ``sources``; each is decoded once, in threads."""
    infos = [dict(img_path=source.path) for source in sources if source.path is not None]
    scans = map_threads(lambda info: scan_item(info, 'full', False), infos, 'checking images')
    return [problem for scan in scans for problem in scan.problems]


def missing(sources: Iterable[ImageSource]) -> list[Problem]:
    """Problems of the local files among ``sources`` that do not exist; no file is opened."""
    paths = [source.path for source in sources if source.path is not None]
    return [Problem('missing image', path, 'no such file') for path in paths if not os.path.exists(path)]


def refuse_unreadable(problems: Sequence[Problem], total: int) -> None:
    """Raise one UsageError that names the first of ``problems``; do nothing without any."""
    if problems:
        named = '; '.join(f'{problem.item}: {problem.detail}' for problem in problems[:_MAX_NAMED])
        more = '; ...' if len(problems) > _MAX_NAMED else ''
        raise UsageError(
            f'{len(problems)} of {total} images cannot be read ({named}{more}); repair them, or leave them out by '
            '--skip-corrupt (skip_corrupt=True)'
        )


def refuse_repeated_names(sources: Iterable[ImageSource]) -> None:
    """Raise UsageError where two of ``sources`` would be written to one file."""
    first: dict[str, ImageSource] = {}
    for source in sources:
        other = first.setdefault(source.name, source)
        if other is not source:
            pair = ' and '.join(item.path or str(item.content) for item in (other, source))
            raise UsageError(
                f'{pair} are both called {source.name} and would overwrite each other; predict them into different '
                'output folders, or folders of one name by their common folder'
            )


def _flat(images: Any) -> Iterator[Any]:
    if isinstance(images, np.ndarray) and images.ndim == 4:
        yield from images
    elif isinstance(images, str | os.PathLike | np.ndarray | Image.Image) or not isinstance(images, Iterable):
        yield images
    else:
        for entry in images:
            yield from _flat(entry)


def _entry_sources(entry: Any, channel_order: str, position: int) -> Iterator[ImageSource]:
    if isinstance(entry, Image.Image):
        yield ImageSource(f'image_{position:05d}', content=_bgr_of_pillow(entry, f'image_{position:05d}'))
    elif isinstance(entry, np.ndarray):
        yield ImageSource(f'image_{position:05d}', content=_checked(entry, channel_order))
    elif isinstance(entry, str | os.PathLike):
        yield from _path_sources(os.fspath(entry))
    else:
        raise UsageError(
            f'cannot read an image from {type(entry).__name__}; give paths, URLs, arrays (H, W, 3) uint8 or PIL images'
        )


def _bgr_of_pillow(image: Image.Image, name: str) -> np.ndarray:
    """Pixels (H, W, 3) uint8 in BGR as OpenCV reads them of a file: turned as the EXIF tag says, 16 bits as 8."""
    if image.mode in ('I', 'F'):
        raise UsageError(f'{name}: images of mode {image.mode} have no range of values; convert it to RGB')
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith('I;16'):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return np.ascontiguousarray(np.asarray(image.convert('RGB'))[..., ::-1])
    except UNREADABLE as error:
        raise UsageError(f'{name}: the PIL image cannot be read ({error})') from error


def _path_sources(text: str) -> Iterator[ImageSource]:
    if text.startswith('file://'):
        text = url2pathname(unquote(urlparse(text).path))
    if '://' in text:
        yield ImageSource(PurePosixPath(unquote(urlparse(text).path)).stem or 'image', content=text)
    elif os.path.isdir(text):
        yield from _folder_sources(Path(text))
    elif any(sign in text for sign in '*?[') and not os.path.exists(text):
        paths = sorted(path for path in glob.glob(text, recursive=True) if _is_image(Path(path)))
        if not paths:
            raise UsageError(f'no image fits the pattern {text}; images end in {", ".join(SUFFIXES)}')
        for path in paths:
            yield ImageSource(Path(path).stem, path)
    else:
        yield ImageSource(Path(text).stem, text)


def _folder_sources(folder: Path) -> Iterator[ImageSource]:
    paths = sorted(path for path in folder.rglob('*') if _is_image(path))
    if not paths:
        raise UsageError(f'the folder {folder} has no images; they end in {", ".join(SUFFIXES)}')
    for path in paths:
        yield ImageSource(path.relative_to(folder).with_suffix('').as_posix(), str(path))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith('.') and path.is_file()


def _checked(array: np.ndarray, channel_order: str) -> np.ndarray:
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise UsageError(f'expected arrays (H, W, 3) uint8, got {array.shape} {array.dtype}')
    return array if channel_order == 'bgr' else np.ascontiguousarray(array[..., ::-1])
