"""What there is to know about images and tags of your own before a training starts."""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mmwsss.registry import DATASETS

from .checks import (
    MAX_LISTED,
    UNREADABLE,
    Problem,
    duplicate_ids,
    map_threads,
    one_line,
    outside_values,
    scan_item,
    shown_size,
)
from .label_files import differing_lines, label_keys, matching_keys, read_label_file
from .own_data import SPLITS, OwnData
from .weak_dataset import WeakSegDataset

_THUMBNAIL = 64
_LEAST_SPREAD = 2.0  # standard deviation of the grey values, 0..255


class Picture(NamedTuple):
    """One image file: (width, height) as it is shown, hash of the file, standard deviation of its grey values."""

    size: tuple[int, int] | None = None
    digest: str = ''
    spread: float = 0.0
    error: str | None = None


@dataclass
class DataReport:
    """Result of :func:`check_own_data`.

    Args:
        data: what was checked.
        ids: images, N.
        labels: their image labels, float32 (N, K) over the foreground classes.
        members: which images belong to 'train' and to 'val', bool (N,) each.
        sizes: (width, height) of the readable images.
        num_masks: images with a mask.
        problems: what stops a training.
        warnings: what a training survives, but its result may not.
    """

    data: OwnData
    ids: list[str]
    labels: np.ndarray
    members: dict[str, np.ndarray]
    sizes: list[tuple[int, int]]
    num_masks: int
    problems: list[Problem]
    warnings: list[Problem]

    @property
    def images_per_class(self) -> dict[str, int]:
        """Number of images of each foreground class."""
        return self._count(self.labels)

    @property
    def listed_per_class(self) -> dict[str, dict[str, int]]:
        """For each split with a list the number of its images of each foreground class."""
        return {split: self._count(self.labels[self.members[split]]) for split in self.data.lists}

    @property
    def labels_per_image(self) -> dict[int, int]:
        """Number of images by their number of classes."""
        counts = np.bincount(self.labels.sum(1).astype(int), minlength=1)
        return {number: int(count) for number, count in enumerate(counts) if count}

    @property
    def together(self) -> np.ndarray:
        """Images in which two classes occur together, int64 (K, K); the diagonal holds those of one class."""
        return (self.labels.T @ self.labels).astype(np.int64)

    def _count(self, labels: np.ndarray) -> dict[str, int]:
        return dict(zip(self.data.classes[1:], labels.sum(0).astype(int).tolist()))

    def as_dict(self) -> dict[str, Any]:
        """The report in the types of JSON."""
        names = self.data.classes[1:]
        pairs = [(names[i], names[j], int(self.together[i, j])) for i, j in combinations(range(len(names)), 2)]
        short = [min(size) for size in self.sizes]
        return dict(
            root=self.data.root,
            images=len(self.ids),
            masks=self.num_masks,
            classes=list(self.data.classes),
            colours=['#{:02x}{:02x}{:02x}'.format(*colour) for colour in self.data.palette],
            images_per_class=self.images_per_class,
            lists={
                split: dict(images=int(self.members[split].sum()), images_per_class=counts)
                for split, counts in self.listed_per_class.items()
            },
            labels_per_image={str(key): count for key, count in self.labels_per_image.items()},
            together=[list(pair) for pair in sorted(pairs, key=lambda pair: -pair[2]) if pair[2]],
            short_side=dict(least=min(short), median=int(np.median(short)), most=max(short)) if short else None,
            problems=[problem._asdict() for problem in self.problems],
            warnings=[warning._asdict() for warning in self.warnings],
            ok=not self.problems,
        )


def check_own_data(data: OwnData, min_side: int = 64, few_images: int = 20) -> DataReport:
    """Read every image and mask of ``data`` once and say what is wrong or doubtful.

    Args:
        min_side: images with a shorter side of fewer pixels get a warning.
        few_images: classes with fewer images to train on get a warning.

    Raises:
        DatasetError: a list or the file of tags cannot be read as a whole.
    """
    dataset, infos, problems, members, masked = _items(data)
    labels, label_problems = dataset.label_source(infos, dataset.class_table)
    problems += label_problems
    pictures = map_threads(_read_picture, [info['img_path'] for info in infos], 'reading images')
    for info, picture in zip(infos, pictures):
        if picture.error is not None:
            problems.append(Problem('unreadable image', info['img_path'], picture.error))
    scan = partial(scan_item, check='full', decode_mask=True)
    for info, result in zip(masked, map_threads(scan, masked, 'reading masks')):
        problems += [problem for problem in result.problems if 'mask' in problem.kind]
        problems += outside_values(info, result.mask_values, len(data.classes), dataset.ignore_index)
    if data.has_masks and not masked:
        hint = 'no image of val has a mask of its name in the folder masks, so there is nothing to evaluate on'
        problems.append(Problem('no mask used', data.root, f'{hint}; name them as the images or remove the folder'))
    ids = [info['img_id'] for info in infos]
    warnings = [
        *_class_warnings(data.classes[1:], labels[members['train']], data.lists.get('train'), few_images),
        *_split_warnings(data, infos, members, masked),
        *_picture_warnings(ids, pictures, labels, min_side),
        *_tag_warnings(data, infos),
    ]
    sizes = [picture.size for picture in pictures if picture.size is not None]
    return DataReport(data, ids, labels, members, sizes, len(masked), problems, warnings)


def _items(data: OwnData) -> tuple[WeakSegDataset, list[dict], list[Problem], dict[str, np.ndarray], list[dict]]:
    """A dataset of the training, infos of the N images of both splits, problems of the lists, members, infos with mask.

    The members are a bool (N,) for each split.
    """
    built = {split: DATASETS.build(data.dataset(split) | dict(pipeline=[], lazy_init=True)) for split in SPLITS}
    problems, every, members = [], {}, {}
    for split, dataset in built.items():
        dataset.data_list = dataset.load_data_list()
        if not dataset.data_list:
            problems.append(Problem('no image', split, f'none is listed or found in {dataset.data_prefix["img_path"]}'))
        problems += duplicate_ids(info['img_id'] for info in dataset.data_list)
        every |= {info['img_id']: info for info in dataset.data_list}
    for split, dataset in built.items():
        ids = {info['img_id'] for info in dataset.data_list}
        members[split] = np.array([image_id in ids for image_id in every], dtype=bool)
    masked = built['val'].filter_data() if data.has_masks else []
    return built['train'], list(every.values()), list(dict.fromkeys(problems)), members, masked


def _read_picture(path: str) -> Picture:
    try:
        content = Path(path).read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            size = shown_size(image)
            image.draft('L', (_THUMBNAIL, _THUMBNAIL))
            grey = image.convert('L')
            grey.thumbnail((_THUMBNAIL, _THUMBNAIL))
            spread = float(np.asarray(grey, dtype=np.float32).std())
    except UNREADABLE as error:
        return Picture(error=one_line(error))
    return Picture(size, hashlib.sha256(content).hexdigest(), spread)


def _class_warnings(names: Sequence[str], labels: np.ndarray, listed: str | None, few_images: int) -> Iterable[Problem]:
    """Classes that tags of the images to train on, float32 (N, K), cannot teach well; they stand in ``listed``."""
    place = '' if listed is None else f' of {listed}'
    for name, count in zip(names, labels.sum(0).astype(int).tolist()):
        if count == 0:
            hint = 'so it cannot be learned; add images of it or remove it from the classes'
            yield Problem('empty class', name, f'no image{place} has it, {hint}')
        elif count == len(labels):
            yield Problem('class in every image', name, 'nothing tells it from the rest; add images without it')
        elif count < few_images:
            yield Problem('tiny class', name, f'only {count} image(s){place}, fewer than {few_images}')
    for i, j in combinations(range(len(names)), 2):
        if labels[:, i].any() and (labels[:, i] == labels[:, j]).all():
            detail = 'occur in the same images only, so tags cannot tell them apart'
            hint = '; is it one name with a space? then list it in classes.txt'
            yield Problem('inseparable classes', f'{names[i]}, {names[j]}', detail + hint)
        if names[i].casefold() == names[j].casefold():
            yield Problem('similar names', f'{names[i]}, {names[j]}', 'differ in upper and lower case only; one class?')


def _split_warnings(
    data: OwnData, infos: Sequence[dict], members: dict[str, np.ndarray], masked: Sequence[dict]
) -> Iterable[Problem]:
    """Images that are trained and evaluated on, where a list says that they should not be the same."""
    if not data.lists:
        return
    evaluated = members['val']
    if data.has_masks and 'val' not in data.lists:  # all images that have a mask, perhaps just those not in train.txt
        ids = {info['img_id'] for info in masked}
        evaluated = np.array([info['img_id'] in ids for info in infos], dtype=bool)
    both = np.flatnonzero(members['train'] & evaluated)
    if not both.size:
        return
    first = ', '.join(infos[index]['img_id'] for index in both[:MAX_LISTED])
    missing = ''.join(f', as there is no {split}.txt' for split in SPLITS if split not in data.lists)
    detail = f'{both.size} image(s) are trained on and evaluated on{missing}, so scores are too good: {first}'
    detail += ', ...' if both.size > MAX_LISTED else ''
    yield Problem('train and val overlap', ' and '.join(data.lists.values()), detail)


def _picture_warnings(
    ids: Sequence[str], pictures: Sequence[Picture], labels: np.ndarray, min_side: int
) -> Iterable[Problem]:
    """Images that are small, empty or there twice."""
    same = defaultdict(list)
    for index, picture in enumerate(pictures):
        if picture.size is None:
            continue
        same[picture.digest].append(index)
        if min(picture.size) < min_side:
            yield Problem('small image', ids[index], '{} x {} pixels'.format(*picture.size))
        if picture.spread < _LEAST_SPREAD:
            yield Problem('nearly constant image', ids[index], 'shows almost one colour only')
    for first, *others in same.values():
        for other in others:
            if (labels[first] == labels[other]).all():
                yield Problem('duplicate image', ids[other], f'the same file as {ids[first]}')
            else:
                yield Problem(
                    'duplicate with other tags', ids[other], f'the same file as {ids[first]}; which is right?'
                )


def _tag_warnings(data: OwnData, infos: Sequence[dict]) -> Iterable[Problem]:
    """Images that are tagged twice, and tags of no image."""
    if data.tags is None:
        return
    path = str(Path(data.root) / data.tags)
    entries = read_label_file(path, data.classes)
    keys = matching_keys(infos, entries)
    used = set(keys)
    for key, lines in differing_lines(path, data.classes).items():
        if key in used:
            numbers = f'{", ".join(map(str, lines[:-1]))} and {lines[-1]}'
            detail = f'lines {numbers} of {data.tags} name different classes; the image gets all of them'
            yield Problem('different tags', key, detail)
    unused = entries.keys() - used
    taken = {name: key for info, key in zip(infos, keys) for name in label_keys(info, False) if name in unused}
    for key in sorted(unused):
        if key in taken:
            detail = f'names the image of "{taken[key]}" in {data.tags}, whose tags are taken; leave one of them'
            yield Problem('tags not used', key, detail)
        else:
            yield Problem('tags without an image', key, f'in {data.tags}; no such image in the lists or the folder')
