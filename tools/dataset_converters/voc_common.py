"""What the converters of PASCAL VOC data share: id lists, palette masks, files that are either whole or not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import track

from mmwsss.apis.errors import UsageError
from mmwsss.datasets import WeakVOCDataset
from mmwsss.datasets.voc import voc_colour_map

NUM_CLASSES = len(WeakVOCDataset.METAINFO['classes'])
IGNORE_INDEX = 255
MAX_LISTED = 5
_FLAT_PALETTE = np.array(voc_colour_map(256), dtype=np.uint8).ravel().tolist()


class ConversionError(UsageError):
    """The source data are not what the converter expects; the message says what is missing and where."""


def read_ids(path: Path) -> list[str]:
    """Ids of a split list, one a line, blank lines dropped.

    Raises:
        ConversionError: there is no such list.
    """
    if not path.is_file():
        raise ConversionError(f'id list {path} does not exist; check the folder given on the command line')
    return [line.strip() for line in path.read_text().splitlines() if line.strip()]


def write_ids(ids: Iterable[str], path: Path) -> None:
    """Write a split list under a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    temporary.write_text(''.join(f'{name}\n' for name in ids))
    os.replace(temporary, path)


def save_image(image: Image.Image, path: Path, **options) -> None:
    """Write an image under a temporary name, then rename it, so that an interrupted run leaves no broken file."""
    temporary = _temporary(path)
    image.save(temporary, **options)
    os.replace(temporary, path)


def palette_mask(mask: np.ndarray) -> Image.Image:
    """Palette image in VOC's colours of class indices, uint8 (H, W)."""
    image = Image.fromarray(mask)
    image.putpalette(_FLAT_PALETTE)
    return image


def unknown_values(mask: np.ndarray, num_classes: int = NUM_CLASSES, ignore_index: int = IGNORE_INDEX) -> list[int]:
    """Values of a mask that are neither a class index nor the ignore index."""
    return [int(value) for value in np.unique(mask) if value >= num_classes and value != ignore_index]


def require_files(paths: Sequence[Path], what: str) -> None:
    """Raise ConversionError with the first missing files and their count when some of ``paths`` do not exist."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        listed = '\n  '.join(str(path) for path in missing[:MAX_LISTED])
        raise ConversionError(f'{len(missing)} of {len(paths)} {what} are missing, the first:\n  {listed}')


def convert_all(function: Callable[[Any], str | None], items: Sequence, title: str, workers: int) -> None:
    """Run ``function`` on every item in threads with progress and ETA; it returns a complaint or None.

    Raises:
        ConversionError: some items had a complaint; the first ones and the count.
    """
    with ThreadPoolExecutor(workers) as pool:
        results = list(track(pool.map(function, items), description=title, total=len(items)))
    complaints = [result for result in results if result is not None]
    if complaints:
        listed = '\n  '.join(complaints[:MAX_LISTED])
        raise ConversionError(f'{title}: {len(complaints)} of {len(items)} failed, the first:\n  {listed}')


def _temporary(path: Path) -> Path:
    # The ending stays last because PIL takes the format from it.
    return path.with_name(f'.{path.stem}.{os.getpid()}{path.suffix}')
