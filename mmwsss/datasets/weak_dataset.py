"""Segmentation dataset whose items carry image labels and whose files are checked before training."""

from __future__ import annotations

import logging
import os.path as osp
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, ClassVar

import numpy as np
from mmcv.transforms import LoadAnnotations
from mmengine import fileio
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset

from mmwsss.registry import DATASETS
from mmwsss.utils.seeding import SampleDraw, mix_seed, seeded

from .checks import (
    CHECKS,
    CorruptFile,
    DatasetError,
    Problem,
    duplicate_ids,
    map_threads,
    outside_values,
    raise_problems,
    scan_item,
)
from .corrupt_files import CorruptFlags
from .image_labels import ClassTable, build_label_source
from .split_lists import read_split

_IMAGE_FAULTS = {'missing image', 'unreadable image'}
_MASK_FAULTS = {'missing mask', 'unreadable mask'}
_REDRAWS = 100  # images that are tried in the place of a corrupt one
_MMSEG_EXCLUDED = 255  # value mmseg's get_label_map gives to a class left out, whatever ignore_index is


@DATASETS.register_module()
class WeakSegDataset(BaseSegDataset):
    """Images with image-level labels, from a split list or a plain folder.

    Every item carries ``image_labels``, np.float32 (K,), multi-hot over the K foreground classes of ``metainfo``. All
    files are checked in ``full_init``; a transform that reads more of them has a method ``find_problems(infos)``,
    which returns every :class:`Problem`. Nothing but corrupt files under ``skip_corrupt`` is swapped for another random
    item: a pipeline that returns None is an error.

    Args:
        ann_file: split list with one id a line, with or without its ending; without it every image below
            ``data_prefix['img_path']`` is used.
        label_source: where image labels come from, e.g. ``dict(type='FileLabels', path='labels.json')``; ``'mask'`` is
            short for ``dict(type='MaskLabels')``, None leaves ``image_labels`` away.
        check: 'full' decodes every image and mask, 'header' reads only sizes, 'none' opens no file. Masks are decoded
            in any case when the labels come from them.
        data_prefix: updates the class's own; ``seg_map_path=None`` says that there are no masks.
        img_suffix: ending of the image files; a tuple allows several.
        skip_corrupt: a training goes on without images, and masks that are no labels, that cannot be read: another item
            is drawn in the place of one, the same again when the training is resumed. They are named in the log and in
            :attr:`corrupt_images`.
        filter_cfg: ``dict(with_masks=True)`` leaves images without a mask file away.
        metainfo: needs ``classes`` with 'background' first unless the class defines them.
        kwargs: arguments of mmseg's ``BaseSegDataset``.

    Raises:
        ValueError: the configuration contradicts itself, e.g. the pipeline loads masks that the dataset does not have.
        DatasetError: missing, unreadable or contradicting files, listed together.
    """

    DATA_PREFIX: ClassVar[dict] = {'img_path': '', 'seg_map_path': None}

    def __init__(
        self,
        ann_file: str = '',
        *,
        label_source: str | dict | None = 'mask',
        check: str = 'full',
        skip_corrupt: bool = False,
        data_prefix: Mapping[str, str | None] | None = None,
        img_suffix: str | Sequence[str] = '.jpg',
        metainfo: dict | None = None,
        lazy_init: bool = False,
        ignore_index: int = 255,
        **kwargs,
    ) -> None:
        name = type(self).__name__
        if check not in CHECKS:
            raise ValueError(f"{name}: check must be one of {CHECKS}, got '{check}'")
        if kwargs.get('reduce_zero_label'):
            raise ValueError(f'{name}: reduce_zero_label drops the background, which has to be class 0; leave it False')
        if skip_corrupt and kwargs.get('test_mode'):
            raise ValueError(f'{name}: skip_corrupt would score other images than those of the list; leave it False')
        self.check = check
        self.skip_corrupt = skip_corrupt
        self.label_source = build_label_source(label_source)
        prefix = {key: path for key, path in {**self.DATA_PREFIX, **(data_prefix or {})}.items() if path is not None}
        super().__init__(
            ann_file=ann_file,
            img_suffix=img_suffix if isinstance(img_suffix, str) else tuple(img_suffix),
            data_prefix=prefix,
            metainfo=metainfo,
            ignore_index=ignore_index,
            max_refetch=0,
            lazy_init=True,
            **kwargs,
        )
        if self.label_source is not None:
            self.label_source.resolve(self.data_root)
        self._check_config()
        if self.label_map is not None:
            targets = self.label_map.items()
            self.label_map = {old: ignore_index if new == _MMSEG_EXCLUDED else new for old, new in targets}
            self._metainfo['label_map'] = self.label_map
        if not lazy_init:
            self.full_init()

    @property
    def class_table(self) -> ClassTable:
        """Classes that a label source may name."""
        classes = tuple(self._metainfo['classes'])
        names = classes if self.label_map is None else tuple(self.METAINFO['classes'])
        return ClassTable(names, len(classes), self.label_map, self.ignore_index)

    def load_data_list(self) -> list[dict]:
        """Data infos of the split: ``img_id``, ``img_path``, ``seg_map_path`` with masks, and mmseg's usual keys.

        Raises:
            DatasetError: the split list or the folder of images does not exist.
        """
        img_dir, ann_dir = self.data_prefix['img_path'], self.data_prefix.get('seg_map_path')
        names = self._listed_images() if self.ann_file and not osp.isdir(self.ann_file) else self._found_images()
        infos = []
        for image_id, image_name in names:
            info = {'img_id': image_id, 'img_path': osp.join(img_dir, image_name)}
            if ann_dir is not None:
                info['seg_map_path'] = osp.join(ann_dir, image_id + self.seg_map_suffix)
            info.update(label_map=self.label_map, reduce_zero_label=self.reduce_zero_label, seg_fields=[])
            infos.append(info)
        return infos

    def filter_data(self) -> list[dict]:
        """Data infos that ``filter_cfg`` leaves.

        Raises:
            ValueError: ``filter_cfg`` has another key than ``with_masks``.
        """
        wanted = dict(self.filter_cfg or {})
        with_masks = wanted.pop('with_masks', False)
        if wanted:
            raise ValueError(f'{self._where()}: filter_cfg knows with_masks only, got {", ".join(wanted)}')
        if not with_masks:
            return self.data_list
        return [info for info in self.data_list if fileio.exists(info.get('seg_map_path', ''), self.backend_args)]

    def full_init(self) -> None:
        """Load the split, check its files and attach the image labels.

        Raises:
            DatasetError: with the first offenders and the count of every kind of problem.
        """
        if self._fully_initialized:
            return
        self.data_list = self.load_data_list()
        self.data_list = self.filter_data()
        if self._indices is not None:
            self.data_list = self._get_unserialized_subset(self._indices)
        self._corrupt = CorruptFlags(len(self.data_list)) if self.skip_corrupt else None
        self._check_and_label(self.data_list)
        if self.serialize_data:
            self.data_bytes, self.data_address = self._serialize_data()
        self._fully_initialized = True

    def __getitem__(self, idx: int) -> Any:
        """Item ``idx`` after the pipeline; a :class:`SampleDraw` has its augmentation seeded from its draw.

        Raises:
            DatasetError: the pipeline returned None, or a file cannot be read.
        """
        if not self._fully_initialized:
            self.full_init()
        try:
            with seeded(*idx.draw) if isinstance(idx, SampleDraw) else nullcontext():
                return self._item(int(idx))
        except CorruptFile as error:
            if not self.skip_corrupt:
                raise DatasetError(
                    f'{self._where()}: {error}; replace the file, or set skip_corrupt=True of the training dataset'
                ) from error
            return self._instead_of(idx, error)

    @property
    def corrupt_images(self) -> list[str]:
        """Files of the images that ``skip_corrupt`` had to replace so far, in any process that loads data."""
        return [self.get_data_info(index)['img_path'] for index in self._corrupt or ()]

    def _item(self, index: int) -> Any:
        info = self.get_data_info(index)
        try:
            item = self.prepare_data(index)
        except FileNotFoundError as error:
            if error.filename not in (info['img_path'], info.get('seg_map_path')):
                raise
            raise CorruptFile(f'{error.filename} does not exist') from error
        if item is None:
            raise DatasetError(f'{self._where()}: the pipeline returned None for item {index}, {info["img_path"]}')
        return item

    def _instead_of(self, idx: int, error: CorruptFile) -> Any:
        """Another item, drawn from the place of ``idx`` in the run and nothing else."""
        place, failed = idx.draw if isinstance(idx, SampleDraw) else (int(idx),), int(idx)
        for attempt in range(1, _REDRAWS + 1):
            if self._corrupt.add(failed):
                print_log(f'{self._where()}: {error}; another image takes its place', 'current', logging.WARNING)
            draw = (*place, attempt)
            failed = int(mix_seed(*draw, words=1)[0]) % len(self)
            try:
                with seeded(*draw):
                    return self._item(failed)
            except CorruptFile as another:
                error = another
        raise DatasetError(f'{self._where()}: {_REDRAWS} images in a row cannot be read, the last as {error}')

    def image_label_matrix(self) -> np.ndarray:
        """Image labels of all items, float32 (N, K).

        Raises:
            ValueError: the dataset has no label source.
        """
        if self.label_source is None:
            raise ValueError(f'{self._where()}: label_source is None, there are no image labels')
        return np.stack([self.get_data_info(index)['image_labels'] for index in range(len(self))])

    def _where(self) -> str:
        return f'{type(self).__name__} ({self.ann_file or self.data_prefix["img_path"]})'

    def _check_config(self) -> None:
        classes = self._metainfo.get('classes')
        name = type(self).__name__
        if not classes or classes[0] != 'background' or len(classes) < 2:
            raise ValueError(f"{name}: metainfo needs classes=('background', ...), got {classes}")
        if len(set(classes)) != len(classes):
            raise ValueError(f'{name}: metainfo classes holds a name twice: {classes}')
        if self.data_prefix.get('seg_map_path') is not None:
            return
        if self.label_source is not None and self.label_source.needs_masks:
            kind = type(self.label_source).__name__
            raise ValueError(f'{name}: label_source {kind} needs masks; set data_prefix seg_map_path or another source')
        for entry, transform in _walk_transforms(self.pipeline, 'pipeline'):
            if isinstance(transform, LoadAnnotations):
                raise ValueError(
                    f'{name}: {entry} {type(transform).__name__} loads masks, but the dataset has none '
                    '(data_prefix seg_map_path is None); remove the entry or set the folder'
                )

    def _listed_images(self) -> list[tuple[str, str]]:
        """Ids and image names in the order of the split list."""
        if not fileio.exists(self.ann_file, self.backend_args):
            raise DatasetError(f'{self._where()}: the split list does not exist; check data_root and ann_file')
        ids = [_without_suffix(name, self._suffixes) for name in read_split(self.ann_file, self.backend_args)]
        return [(image_id, self._image_name(image_id)) for image_id in ids]

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return (self.img_suffix,) if isinstance(self.img_suffix, str) else self.img_suffix

    def _image_name(self, image_id: str) -> str:
        names = [image_id + suffix for suffix in self._suffixes]
        if len(names) == 1:
            return names[0]
        exists = (fileio.exists(osp.join(self.data_prefix['img_path'], name), self.backend_args) for name in names)
        return next((name for name, found in zip(names, exists) if found), names[0])

    def _found_images(self) -> list[tuple[str, str]]:
        """Ids and names of all images below the image folder, sorted."""
        folder = self.data_prefix['img_path']
        if not fileio.isdir(folder, self.backend_args):
            raise DatasetError(f'{self._where()}: the folder of images does not exist; check data_root and data_prefix')
        names = fileio.list_dir_or_file(
            folder, list_dir=False, suffix=self.img_suffix, recursive=True, backend_args=self.backend_args
        )
        return sorted((_without_suffix(name, self._suffixes), name) for name in names)

    def _check_and_label(self, infos: list[dict]) -> None:
        """Attach ``image_labels`` to the infos and raise one error for everything that is wrong."""
        if not infos:
            raise_problems([Problem('empty split', self._where(), 'no image is listed or found')], self._where())
        problems = duplicate_ids(info['img_id'] for info in infos)
        from_masks = self.label_source is not None and self.label_source.needs_masks
        mask_values: list[np.ndarray | None] = [None] * len(infos)
        table = self.class_table
        if self.check != 'none' or from_masks:
            scan = partial(scan_item, check=self.check, decode_mask=from_masks, backend_args=self.backend_args)
            for index, result in enumerate(map_threads(scan, infos, f'checking {self._where()}')):
                mask_values[index] = result.mask_values
                problems += result.problems
                problems += outside_values(infos[index], result.mask_values, len(table.names), self.ignore_index)
        if self.check != 'none':
            for _, transform in _walk_transforms(self.pipeline, 'pipeline'):
                if hasattr(transform, 'find_problems'):
                    problems += transform.find_problems(infos)
        if self.label_source is not None:
            labels, label_problems = self.label_source(infos, table, mask_values)
            problems += label_problems
            for info, row in zip(infos, labels):
                info['image_labels'] = row.copy()
        if self.skip_corrupt:
            problems = self._without_corrupt(
                problems, infos, _IMAGE_FAULTS if from_masks else _IMAGE_FAULTS | _MASK_FAULTS
            )
        raise_problems(problems, self._where())

    def _without_corrupt(self, problems: list[Problem], infos: list[dict], kinds: set[str]) -> list[Problem]:
        """Problems that stop a training, unless no image is left; the images of the others are flagged."""
        tolerated = [problem for problem in problems if problem.kind in kinds]
        paths = {problem.item for problem in tolerated}
        indices = [n for n, info in enumerate(infos) if paths & {info['img_path'], info.get('seg_map_path')}]
        if not indices or len(indices) == len(infos):
            return problems
        for index in indices:
            self._corrupt.add(index)
        first = tolerated[0]
        text = (
            f'{len(indices)} images cannot be used and are replaced by others, the first: {first.item}: {first.detail}'
        )
        print_log(f'{self._where()}: {text}', 'current', logging.WARNING)
        return [problem for problem in problems if problem.kind not in kinds]


def _without_suffix(name: str, suffixes: Sequence[str]) -> str:
    return next((name[: -len(suffix)] for suffix in suffixes if suffix and name.endswith(suffix)), name)


def _walk_transforms(pipeline: Any, entry: str) -> Iterator[tuple[str, Any]]:
    """Transforms of a pipeline with their place, those inside wrappers included."""
    for index, transform in enumerate(getattr(pipeline, 'transforms', None) or ()):
        place = f'{entry}[{index}]'
        if isinstance(transform, (list, tuple)):
            for inner in transform:
                yield place, inner
                yield from _walk_transforms(inner, place)
        else:
            yield place, transform
            yield from _walk_transforms(transform, place)
