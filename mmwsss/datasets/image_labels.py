"""Sources of image labels: masks, VOC XML, label files (``.npy``, ``.json``, ``.csv``, ``.txt``), COCO instances.

Every source is called with the data infos of a dataset and its :class:`ClassTable` and returns the labels together with
all problems it met, so that the dataset can report them in one error. Relative paths are taken from ``data_root``.
"""

from __future__ import annotations

import os.path as osp
import xml.etree.ElementTree as ElementTree
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mmwsss.registry import TASK_UTILS

from .checks import DatasetError, Problem, map_threads, outside_values, scan_item
from .label_files import LABEL_SUFFIXES, is_name_list, matching_keys, other_endings, read_json, read_label_file

SHORT_NAMES = {'mask': 'MaskLabels'}


@dataclass(frozen=True)
class ClassTable:
    """Classes a label source may name, and where they go in the label vector.

    Args:
        names: classes of the source with background first; the full list when a dataset uses only some of them.
        num_classes: classes of the dataset with background, K + 1.
        label_map: index in ``names`` to class index of the dataset, ``ignore_index`` for a class left out; None when
            both lists are equal.
        ignore_index: mask value without a class.
    """

    names: tuple[str, ...]
    num_classes: int
    label_map: dict[int, int] | None
    ignore_index: int

    def vector(self, indices: Iterable[int]) -> np.ndarray:
        """Multi-hot float32 (K,) of class indices into ``names``; background and left out classes give nothing."""
        labels = np.zeros(self.num_classes - 1, dtype=np.float32)
        for index in indices:
            target = index if self.label_map is None else self.label_map[index]
            if target not in (0, self.ignore_index):
                labels[target - 1] = 1
        return labels

    def from_names(self, names: Iterable[str], item: str) -> tuple[np.ndarray, list[Problem]]:
        """Labels of the named classes, float32 (K,), and a problem for every unknown name."""
        names = list(dict.fromkeys(names))
        unknown = [name for name in names if name not in self.names]
        labels = self.vector(self.names.index(name) for name in names if name in self.names)
        return labels, [Problem('unknown class', item, f'"{name}" is not in the class list') for name in unknown]

    def from_vector(self, vector: Sequence[float], item: str) -> tuple[np.ndarray, list[Problem]]:
        """Labels from a multi-hot vector over ``names``, with or without the leading background entry."""
        num_foreground = len(self.names) - 1
        values = np.asarray(vector)
        if (
            values.ndim != 1
            or values.size not in (num_foreground, num_foreground + 1)
            or values.dtype.kind not in 'uifb'
        ):
            detail = (
                f'expected a multi-hot vector of length {num_foreground} or {num_foreground + 1} (background first), '
            )
            detail += f'got shape {values.shape} of {values.dtype}'
            return self.vector(()), [Problem('label vector', item, detail)]
        wrong = values[(values != 0) & (values != 1)]
        if wrong.size:
            return self.vector(()), [Problem('label vector', item, f'holds {wrong[0]}, expected only 0 and 1')]
        offset = 1 + num_foreground - values.size
        return self.vector(int(i) + offset for i in np.flatnonzero(values)), []


class ImageLabelSource(ABC):
    """Base of the label sources."""

    needs_masks = False
    path_attribute: str | None = None

    @abstractmethod
    def __call__(
        self, infos: Sequence[dict], table: ClassTable, mask_values: Sequence[np.ndarray | None] | None = None
    ) -> tuple[np.ndarray, list[Problem]]:
        """Read the labels of all items.

        Args:
            infos: data infos with ``img_id``, ``img_path`` and, for some sources, ``seg_map_path``.
            table: classes of the dataset.
            mask_values: values of every mask where the caller has already read them.

        Returns:
            Multi-hot labels float32 (N, K), zero where a problem left none; and the problems.

        Raises:
            DatasetError: the file or folder of the source is missing or cannot be parsed as a whole.
        """

    def resolve(self, data_root: str | None) -> None:
        """Take a relative path of this source from ``data_root``."""
        if self.path_attribute and data_root:
            path = getattr(self, self.path_attribute)
            setattr(self, self.path_attribute, osp.join(data_root, path))


class ItemwiseLabelSource(ImageLabelSource):
    """Base of the sources that read the labels of each item apart from its mask."""

    def __call__(
        self, infos: Sequence[dict], table: ClassTable, mask_values: Sequence[np.ndarray | None] | None = None
    ) -> tuple[np.ndarray, list[Problem]]:
        results = self._all_items(infos, table)
        labels = np.stack([vector for vector, _ in results]) if results else np.zeros((0, table.num_classes - 1), 'f4')
        return labels, [problem for _, problems in results for problem in problems]

    @abstractmethod
    def _all_items(self, infos: Sequence[dict], table: ClassTable) -> list[tuple[np.ndarray, list[Problem]]]:
        """Labels, float32 (K,), and problems of every item."""


@TASK_UTILS.register_module()
class MaskLabels(ImageLabelSource):
    """Classes present in the mask, that is its values other than background and ignore."""

    needs_masks = True

    def __call__(self, infos, table, mask_values=None):
        if mask_values is None:
            scans = map_threads(partial(scan_item, check='none', decode_mask=True), infos, 'reading masks')
            problems = [problem for scan in scans for problem in scan.problems]
            mask_values = [scan.mask_values for scan in scans]
            for info, values in zip(infos, mask_values):
                problems += outside_values(info, values, len(table.names), table.ignore_index)
        else:
            problems = []
        labels = np.zeros((len(infos), table.num_classes - 1), dtype=np.float32)
        for row, values in zip(labels, mask_values):
            if values is not None:
                row[:] = table.vector(int(v) for v in values if v < len(table.names) and v != table.ignore_index)
        return labels, problems


@TASK_UTILS.register_module()
class VOCXMLLabels(ItemwiseLabelSource):
    """Classes of the annotated objects in ``<xml_dir>/<id>.xml``, PASCAL VOC's box annotations.

    Args:
        xml_dir: folder of the XML files, ``Annotations`` in VOC.
        use_difficult: count objects that are marked as difficult.
    """

    path_attribute = 'xml_dir'

    def __init__(self, xml_dir: str = 'Annotations', use_difficult: bool = True) -> None:
        self.xml_dir = str(xml_dir)
        self.use_difficult = use_difficult

    def _all_items(self, infos, table):
        if not osp.isdir(self.xml_dir):
            raise DatasetError(
                f'VOCXMLLabels: folder {self.xml_dir} does not exist; set xml_dir to the XML annotations'
            )
        return map_threads(partial(self._item, table=table), infos, f'reading {self.xml_dir}')

    def _item(self, info: dict, table: ClassTable) -> tuple[np.ndarray, list[Problem]]:
        path = osp.join(self.xml_dir, f'{info["img_id"]}.xml')
        try:
            objects = ElementTree.parse(path).getroot().findall('object')
        except FileNotFoundError:
            return table.vector(()), [Problem('missing label', info['img_id'], f'no such file {path}')]
        except ElementTree.ParseError as error:
            return table.vector(()), [Problem('unreadable label', path, str(error))]
        if not self.use_difficult:
            objects = [item for item in objects if item.findtext('difficult', '0').strip() != '1']
        return table.from_names((item.findtext('name', '').strip() for item in objects), path)


@TASK_UTILS.register_module()
class FileLabels(ItemwiseLabelSource):
    """Labels from one file, recognised by its ending.

    - ``.npy``: a dict from id to multi-hot vector, saved with ``np.save``. The format stores it as a pickle; nothing of
      it is run, see :func:`~mmwsss.datasets.npy_labels.read_npy`.
    - ``.json``: an object from id to a list of class names or to a multi-hot vector.
    - ``.csv``, ``.txt``: lines ``id,name name ...``, separated by commas or spaces; several lines of one id are united.
    - ``.csv`` also as a table: a header ``image,name,name,...`` and rows of the id and 0 or 1.

    Vectors run over the dataset's foreground classes, or over all classes with the background first; for a dataset that
    uses some of its classes only, over the full list. Ids are image ids or file names, whose ending may differ in
    case, or numbers throughout (the digits of the image id, or the last number in it). One that fits two images is a
    problem.
    """

    path_attribute = 'path'

    def __init__(self, path: str) -> None:
        self.path = str(path)
        if Path(self.path).suffix not in LABEL_SUFFIXES:
            raise ValueError(f'FileLabels: {self.path} is no .npy, .json, .csv or .txt file')

    def _all_items(self, infos, table):
        entries = read_label_file(self.path, table.names)
        keys = matching_keys(infos, entries)
        owners: dict[str, str] = {}
        results = []
        for info, key, near in zip(infos, keys, other_endings(infos, keys, entries)):
            owner = owners.setdefault(key, info['img_id']) if key is not None else None
            if owner not in (None, info['img_id']):
                problem = Problem(
                    'ambiguous label id', info['img_id'], f'"{key}" in {self.path} also stands for {owner}'
                )
                results.append((table.vector(()), [problem]))
            elif key is None:
                results.append((table.vector(()), [self._missing(info, near)]))
            else:
                convert = table.from_names if is_name_list(entries[key]) else table.from_vector
                results.append(convert(entries[key], info['img_id']))
        return results

    def _missing(self, info: dict, near: str | None) -> Problem:
        detail = f'not in {self.path}'
        if near is not None:
            file = Path(info['img_path']).name
            detail += f', which has {near}: only the ending differs from the file {file}; list it as {info["img_id"]}'
        return Problem('missing label', info['img_id'], detail)


@TASK_UTILS.register_module()
class COCOInstanceLabels(ItemwiseLabelSource):
    """Classes of the annotations in a COCO instances JSON; images are found by file name, classes by name.

    An image of the file without annotations has no label, an image that the file does not list is a problem.
    """

    path_attribute = 'ann_file'

    def __init__(self, ann_file: str) -> None:
        self.ann_file = str(ann_file)

    def _all_items(self, infos, table):
        content = read_json(self.ann_file)
        try:
            category_names = {category['id']: category['name'] for category in content['categories']}
            names = {image['id']: set() for image in content['images']}
            for annotation in content['annotations']:
                names[annotation['image_id']].add(category_names[annotation['category_id']])
            by_file = {Path(image['file_name']).stem: sorted(names[image['id']]) for image in content['images']}
        except (KeyError, TypeError) as error:
            raise DatasetError(
                f'{self.ann_file}: not a COCO instances file, {error!r} is missing or unknown'
            ) from error
        results = []
        for info in infos:
            stem = Path(info['img_path']).stem
            if stem in by_file:
                results.append(table.from_names(by_file[stem], info['img_id']))
            else:
                problem = Problem('missing label', info['img_id'], f'no image of this name in {self.ann_file}')
                results.append((table.vector(()), [problem]))
        return results


def build_label_source(source: str | dict | ImageLabelSource | None) -> ImageLabelSource | None:
    """Build a label source from a config dict, the short name 'mask', or an instance; None stays None.

    Raises:
        ValueError: an unknown short name.
    """
    if source is None or isinstance(source, ImageLabelSource):
        return source
    if isinstance(source, str):
        if source not in SHORT_NAMES:
            raise ValueError(f"label_source '{source}' is unknown; use {sorted(SHORT_NAMES)} or dict(type=...)")
        source = {'type': SHORT_NAMES[source]}
    return TASK_UTILS.build(source)
