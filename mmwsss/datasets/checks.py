"""Finding bad input before training starts: files are read once, all problems end up in one error."""

from __future__ import annotations

import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from mmengine import fileio
from mmengine.dist import is_main_process
from mmengine.utils import ProgressBar
from PIL import Image

from mmwsss.utils.images import UNREADABLE

CHECKS = ('full', 'header', 'none')
MAX_LISTED = 5
PROGRESS_FROM = 2000  # items; below, a progress bar would only flicker
_EXIF_ORIENTATION = 0x0112


class Problem(NamedTuple):
    """One thing wrong with the data: its ``kind`` (counted), the ``item`` it is about, and the ``detail``."""

    kind: str
    item: str
    detail: str


class DatasetError(ValueError):
    """The data cannot be used as configured; ``problems`` holds every :class:`Problem` that was found."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        if message.startswith('Caught '):  # a data loader hands on the traceback of its process as the message
            message = message.rstrip().rpartition(f'{type(self).__name__}: ')[2]
        super().__init__(message)
        self.problems = tuple(problems)


class CorruptFile(DatasetError):
    """One image or mask that cannot be read; the message names the file."""


def raise_problems(problems: Sequence[Problem], where: str) -> None:
    """Raise one DatasetError with the count of every kind and the first offenders; do nothing without problems.

    ``where`` names the data (dataset class and split). Every kind is shown once before any kind is shown twice.
    """
    if not problems:
        return
    counts = Counter(problem.kind for problem in problems)
    summary = ', '.join(f'{kind}: {count}' for kind, count in counts.items())
    rank, seen = [], Counter()
    for position, problem in enumerate(problems):
        rank.append((seen[problem.kind], position, problem))
        seen[problem.kind] += 1
    listed = [problem for _, _, problem in sorted(rank)[:MAX_LISTED]]
    lines = [f'{where}: {len(problems)} problem(s) found before training ({summary}); the first {len(listed)}:']
    lines += [f'  {problem.kind}: {problem.item}: {problem.detail}' for problem in listed]
    raise DatasetError('\n'.join(lines), problems)


@dataclass
class ItemScan:
    """What was read of one item: ``mask_values`` int64 (V,), sorted, None when the mask was not decoded."""

    mask_values: np.ndarray | None = None
    problems: list[Problem] = field(default_factory=list)


def open_file(path: str, backend_args: dict | None) -> AbstractContextManager:
    """Open a file for reading bytes, through mmengine's file backend when one is configured."""
    if backend_args is None:
        return open(path, 'rb')
    return io.BytesIO(fileio.get(path, backend_args=backend_args))


def image_size(path: str, decode: bool, backend_args: dict | None = None) -> tuple[int, int]:
    """Width and height of an image as the image loader will see it, that is after its EXIF rotation.

    Args:
        path: image file.
        decode: decode all of the file (JPEG at an eighth of the size), so that a truncated file is found.
        backend_args: mmengine's file backend.

    Raises:
        FileNotFoundError: there is no such file.
        OSError, ValueError and other decoding errors: the file is no readable image.
    """
    with open_file(path, backend_args) as stream, Image.open(stream) as image:
        size = shown_size(image)
        if decode:
            image.draft(image.mode, (1, 1))
            image.load()
    return size


def shown_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened image after its EXIF rotation; nothing is decoded."""
    width, height = image.size
    return (height, width) if image.getexif().get(_EXIF_ORIENTATION, 1) >= 5 else (width, height)


def read_mask(path: str, backend_args: dict | None = None) -> np.ndarray:
    """Class indices of a one-channel mask file, (H, W), integer; palette images give their indices.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has several channels.
        OSError and other decoding errors: the file is no readable image.
    """
    with open_file(path, backend_args) as stream, Image.open(stream) as image:
        mask = np.asarray(image)
    if mask.ndim != 2 or mask.dtype.kind not in 'uib':
        raise ValueError(f'expected one channel of class indices, got mode {image.mode}; save it as L or P')
    return mask


def values_of(mask: np.ndarray) -> np.ndarray:
    """Sorted distinct values of an integer mask, int64 (V,)."""
    if mask.dtype == np.uint8:
        return np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    return np.unique(mask).astype(np.int64)


def scan_item(info: dict, check: str, decode_mask: bool, backend_args: dict | None = None) -> ItemScan:
    """Read image and mask of one data info as far as ``check`` asks and collect what is wrong with them.

    Args:
        info: with ``img_path`` and, when the dataset has masks, ``seg_map_path``.
        check: 'full' decodes image and mask, 'header' reads their headers, 'none' reads no image.
        decode_mask: decode the mask even if ``check`` does not ask for it (image labels come from it).
        backend_args: mmengine's file backend.
    """
    scan = ItemScan()
    size = None
    if check != 'none':
        try:
            size = image_size(info['img_path'], check == 'full', backend_args)
        except FileNotFoundError:
            scan.problems.append(Problem('missing image', info['img_path'], 'no such file'))
        except UNREADABLE as error:
            scan.problems.append(Problem('unreadable image', info['img_path'], one_line(error)))
    mask_path = info.get('seg_map_path')
    if mask_path is None or (check == 'none' and not decode_mask):
        return scan
    try:
        if check == 'full' or decode_mask:
            mask = read_mask(mask_path, backend_args)
            scan.mask_values, mask_size = values_of(mask), mask.shape[::-1]
        else:
            mask_size = image_size(mask_path, False, backend_args)
    except FileNotFoundError:
        scan.problems.append(Problem('missing mask', mask_path, 'no such file'))
    except UNREADABLE as error:
        scan.problems.append(Problem('unreadable mask', mask_path, one_line(error)))
    else:
        if size is not None and size != mask_size:
            detail = f'mask is {mask_size[0]}x{mask_size[1]}, image is {size[0]}x{size[1]}'
            scan.problems.append(Problem('mask size', mask_path, detail))
    return scan


def outside_values(info: dict, values: np.ndarray | None, num_classes: int, ignore_index: int) -> list[Problem]:
    """Problem about mask values that are neither a class index below ``num_classes`` nor ``ignore_index``."""
    if values is None:
        return []
    wrong = [int(v) for v in values if not 0 <= v < num_classes and v != ignore_index]
    if not wrong:
        return []
    detail = f'mask holds {_shorten(wrong)}, expected 0..{num_classes - 1} or {ignore_index} (ignore)'
    return [Problem('label outside of the class list', info['seg_map_path'], detail)]


def duplicate_ids(ids: Iterable[str]) -> list[Problem]:
    """One problem for every id that occurs more than once."""
    counts = Counter(ids)
    return [Problem('duplicate id', name, f'occurs {count} times') for name, count in counts.items() if count > 1]


def map_threads(function: Callable[[Any], Any], items: Sequence, title: str) -> list:
    """Results of ``function`` over ``items``, in order, from a thread pool; progress with ETA for long lists."""
    workers = min(16, max(2, os.cpu_count() or 2))
    bar = None
    if len(items) > PROGRESS_FROM and is_main_process():
        sys.stderr.write(f'{title}\n')
        bar = ProgressBar(len(items), file=sys.stderr)
    step = max(1, len(items) // 200)
    results = []
    with ThreadPoolExecutor(workers) as pool:
        for result in pool.map(function, items):
            results.append(result)
            if bar is not None and (len(results) % step == 0 or len(results) == len(items)):
                bar.update(len(results) - bar.completed)
    if bar is not None:
        sys.stderr.write('\n')
    return results


def one_line(error: BaseException) -> str:
    """Message of an error without line breaks, its type where it has none."""
    return ' '.join(str(error).split()) or type(error).__name__


def _shorten(values: Sequence[int]) -> str:
    shown = ', '.join(str(value) for value in values[:MAX_LISTED])
    return shown + (f', ... ({len(values)} values)' if len(values) > MAX_LISTED else '')
