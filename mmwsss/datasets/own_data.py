"""Images and tags of your own: what lies in a folder becomes the config of a dataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmwsss.registry import TASK_UTILS

from .checks import DatasetError, Problem
from .image_labels import ItemwiseLabelSource
from .label_files import LABEL_SUFFIXES, used_class_names
from .voc import voc_colour_map

IMAGES, MASKS, CLASS_LIST = 'images', 'masks', 'classes.txt'
TAG_FILES = tuple(f'{stem}{suffix}' for stem in ('labels', 'tags') for suffix in LABEL_SUFFIXES)
SPLITS = ('train', 'val')
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.JPG', '.JPEG', '.PNG', '.BMP', '.WEBP')
MAX_CLASSES = 255  # with the background; masks are bytes, of which 255 says "ignore"
BACKGROUND = 'background'


@TASK_UTILS.register_module()
class FolderLabels(ItemwiseLabelSource):
    """One label an image: the first folder of its id, ``cat`` of ``cat/0001``; ``background/...`` has none."""

    def _all_items(self, infos, table):
        results = []
        for info in infos:
            folder, found, _ = info['img_id'].replace(os.sep, '/').partition('/')
            if found:
                results.append(table.from_names([folder], info['img_id']))
            else:
                problem = Problem('missing label', info['img_id'], 'lies in no folder that names its class')
                results.append((table.vector(()), [problem]))
        return results


@dataclass(frozen=True)
class OwnData:
    """What was found in a folder.

    Args:
        root: the folder.
        classes: names, the background first.
        img_path: folder of the images below ``root``.
        tags: file of tags below ``root``; None where the folders of the images name their classes.
        has_masks: there is a folder of masks.
        lists: file below ``root`` with the ids of a split, by the name of the split; a split without one is all images.
    """

    root: str
    classes: tuple[str, ...]
    img_path: str
    tags: str | None
    has_masks: bool
    lists: dict[str, str]

    @property
    def palette(self) -> list[list[int]]:
        """Colours of the classes, RGB: those of PASCAL VOC, so equal lists of classes look the same."""
        return voc_colour_map(len(self.classes))

    def dataset(self, split: str) -> dict[str, Any]:
        """Config of the :class:`~mmwsss.datasets.WeakSegDataset` of a split, without a pipeline.

        Masks are named for 'val' alone, of which only images with a mask are taken where there are masks.
        """
        masks = MASKS if self.has_masks and split == 'val' else None
        source = dict(type='FolderLabels') if self.tags is None else dict(type='FileLabels', path=self.tags)
        dataset = dict(
            type='WeakSegDataset',
            data_root=self.root,
            ann_file=self.lists.get(split, ''),
            data_prefix=dict(img_path=self.img_path, seg_map_path=masks),
            img_suffix=IMAGE_SUFFIXES,
            label_source=source,
            metainfo=dict(classes=self.classes, palette=self.palette),
        )
        return dataset if masks is None else dict(dataset, filter_cfg=dict(with_masks=True))

    def config(self) -> dict[str, Any]:
        """Settings for a config file: ``num_classes``, ``has_masks`` and the datasets ``train`` and ``val``."""
        datasets = {split: self.dataset(split) for split in SPLITS}
        return dict(num_classes=len(self.classes), has_masks=self.has_masks, **datasets)


def find_own_data(root: str | os.PathLike) -> OwnData:
    """Recognise the data in a folder::

        root/images/             images, in folders of any depth; or one folder for each class
        root/labels.csv          tags: .csv, .json, .txt or .npy, named labels or tags; none with class folders
        root/classes.txt         optional: names of the classes in their order, one a line
        root/train.txt, val.txt  optional: ids of the splits, one a line
        root/masks/              optional: PNGs of class indices, for scores

    Without masks the images may lie in ``root`` itself.

    Raises:
        DatasetError: a part is missing, or it is not clear what is meant.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f'{root}: no such folder; name the folder of your images and tags (MMWSSS_DATA_ROOT)')
    img_path = IMAGES if (root / IMAGES).is_dir() else ''
    has_masks = (root / MASKS).is_dir()
    if has_masks and not img_path:
        raise DatasetError(f'{root} has a folder {MASKS} but none named {IMAGES}; move the images into {IMAGES}')
    tags = _tag_file(root)
    return OwnData(
        root=str(root),
        classes=(BACKGROUND, *_class_names(root, root / img_path, tags)),
        img_path=img_path,
        tags=tags,
        has_masks=has_masks,
        lists={split: f'{split}.txt' for split in SPLITS if (root / f'{split}.txt').is_file()},
    )


def _tag_file(root: Path) -> str | None:
    found = [name for name in TAG_FILES if (root / name).is_file()]
    if len(found) > 1:
        raise DatasetError(f'{root} has several files of tags ({", ".join(found)}); leave one of them')
    return found[0] if found else None


def _class_names(root: Path, images: Path, tags: str | None) -> list[str]:
    """Foreground classes: those listed, otherwise those that tags or folders name."""
    listed = root / CLASS_LIST
    if listed.is_file():
        names, where = _listed_names(listed), str(listed)
    elif tags is not None:
        where = str(root / tags)
        names = used_class_names(where)
        if names is None:
            raise DatasetError(f'{where} holds vectors, which name no classes; list the names in {listed}, one a line')
    else:
        where = str(images)
        names = _folders(images)
    _check_names(names, where, tags)
    return names


def _listed_names(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding='utf-8-sig').splitlines()]
    except UnicodeDecodeError as error:
        raise DatasetError(f'{path}: not UTF-8 text ({error.reason}); save it as UTF-8') from error
    return [name for name in lines if name and name != BACKGROUND]


def _folders(images: Path) -> list[str]:
    hidden = (BACKGROUND, MASKS)
    return sorted(
        path.name for path in images.iterdir() if path.is_dir() and path.name[0] not in '._' and path.name not in hidden
    )


def _check_names(names: Sequence[str], where: str, tags: str | None) -> None:
    if not names:
        wanted = (
            'no file of tags (labels.csv, .json or .txt) and no folder for each class' if tags is None else 'no class'
        )
        raise DatasetError(f'{where}: {wanted} found')
    if '' in names:
        raise DatasetError(f'{where}: a column of the header has no name; name the class or remove the column')
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DatasetError(f'{where} names a class twice: {", ".join(twice)}')
    if len(names) >= MAX_CLASSES:
        raise DatasetError(f'{where} has {len(names)} classes, masks can tell {MAX_CLASSES - 1} apart; use fewer')
