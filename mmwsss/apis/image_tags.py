"""Image labels that a user gives for images of a prediction."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np

from mmwsss.datasets.checks import Problem
from mmwsss.datasets.image_labels import ClassTable, FileLabels
from mmwsss.datasets.label_files import LABEL_SUFFIXES

from .errors import UsageError
from .image_sources import ImageSource

TagReader = Callable[[ImageSource], np.ndarray | None]


def tag_reader(
    sources: Sequence[ImageSource] | None,
    class_names: Sequence[str],
    image_labels: Any = None,
    classes: Any = None,
) -> TagReader | None:
    """Function from an image to its labels, float32 (K,) or None; to be called once for each image in turn.

    Args:
        sources: all images, None where they are not known yet.
        class_names: of the model, the background first.
        image_labels: multi-hot vectors (K,), or (K + 1,) with the background first, or None for each image; or the path
            of a label file, see :class:`~mmwsss.datasets.image_labels.FileLabels`.
        classes: names of the classes in each image, or None for it. Both may also be a mapping from image names, in
            which images may be missing, an iterator, or what belongs to a single image.

    Returns:
        None without any labels.

    Raises:
        UsageError: both are given, their number is not that of the images, a name is unknown or a vector does not fit.
    """
    if image_labels is None and classes is None:
        return None
    if image_labels is not None and classes is not None:
        raise UsageError('give either image_labels or classes, not both')
    table = ClassTable(tuple(class_names), len(class_names), None, 255)
    if isinstance(classes, os.PathLike) or (isinstance(classes, str) and Path(classes).suffix in LABEL_SUFFIXES):
        raise UsageError(f'classes={os.fspath(classes)!r} names no class; give a label file as image_labels=')
    if isinstance(image_labels, str | os.PathLike):
        return _file_reader(os.fspath(image_labels), sources, table)
    given, convert = (classes, table.from_names) if image_labels is None else (image_labels, table.from_vector)
    if isinstance(given, Mapping):
        if sources is not None and (unknown := given.keys() - {source.name for source in sources}):
            raise UsageError(f'labels are given for {min(unknown)}, but no image has this name')
        return lambda source: _converted(given.get(source.name), convert, source.name)
    if sources is not None and not isinstance(given, Iterator):
        given = _one_each(given, len(sources))
    entries = iter(given)
    return lambda source: _converted(_next(entries), convert, source.name)


def _file_reader(path: str, sources: Sequence[ImageSource] | None, table: ClassTable) -> TagReader:
    if sources is None:
        raise UsageError(f'labels from the file {path} need a list of images, not a generator')
    infos = [dict(img_id=source.name, img_path=source.where) for source in sources]
    try:
        labels, problems = FileLabels(path)(infos, table)
    except ValueError as error:
        raise UsageError(str(error)) from error
    _refuse(problems)
    by_source = {id(source): row for source, row in zip(sources, labels)}
    return lambda source: by_source[id(source)]


def _one_each(given: Any, total: int) -> Sequence[Any]:
    """``given`` with one entry for each of ``total`` images; what belongs to a single one is wrapped."""
    plain = len(given) > 0 and all(np.ndim(entry) == 0 and not isinstance(entry, Set | None) for entry in given)
    given = [given] if total == 1 and plain else given
    if len(given) != total:
        raise UsageError(f'labels are given for {len(given)} images, but there are {total}')
    return given


def _converted(
    entry: Any, convert: Callable[[Any, str], tuple[np.ndarray, Iterable[Problem]]], name: str
) -> np.ndarray | None:
    if entry is None:
        return None
    labels, problems = convert([entry] if isinstance(entry, str) else entry, name)
    _refuse(problems)
    return labels


def _refuse(problems: Iterable[Problem]) -> None:
    for problem in problems:
        raise UsageError(f'labels of {problem.item}: {problem.kind}: {problem.detail}')


def _next(entries: Iterator[Any]) -> Any:
    try:
        return next(entries)
    except StopIteration:
        raise UsageError('there are fewer labels than images') from None
