"""Which images an export runs on, and how their files are named and scored."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import LoadAnnotations
from mmengine.config import Config
from mmengine.dataset import BaseDataset

from mmwsss.registry import DATASETS, TRANSFORMS

SPLITS = ('train', 'val', 'test')
MANIFEST = 'manifest.json'  # beside the folder of exported masks


class ExportError(ValueError):
    """An export cannot be made as asked; the message is one line that says what to change.

    Args:
        problem: what is wrong.
        overwrite: how to go on by ``overwrite``, which only those who call the export can do; left out of ``problem``.
    """

    def __init__(self, problem: str, overwrite: str = '') -> None:
        super().__init__(f'{problem}; {overwrite}' if overwrite else problem)
        self.problem = problem
        self.overwrite = overwrite


def export_dataset_cfg(cfg: Config, split: str) -> dict[str, Any]:
    """Config of the dataset of ``split`` with the test pipeline of ``cfg``.

    Args:
        split: 'train', 'val' or 'test' for the dataset of that loader, or a file with one image id a line, which is
            read in the place of the training list.

    Returns:
        Dataset config in test mode; LoadAnnotations is dropped where the dataset has no masks.

    Raises:
        ExportError: the config lacks the loader or a test pipeline, or the list file does not exist.
    """
    loader = f'{split}_dataloader' if split in SPLITS else 'train_dataloader'
    if split not in SPLITS and not os.path.isfile(split):
        raise ExportError(f'split {split} is neither one of {", ".join(SPLITS)} nor a file with one image id a line')
    if cfg.get(loader) is None:
        raise ExportError(f'the config has no {loader}, which the split {split} needs')
    dataset = _unwrapped(cfg[loader].dataset, loader)
    pipeline = next(
        (_unwrapped(cfg[name].dataset, name).get('pipeline') for name in _TEST_LOADERS if cfg.get(name)), None
    )
    if pipeline is None:
        raise ExportError('the config has no test_dataloader or val_dataloader with a pipeline to read images through')
    if split not in SPLITS:
        dataset['ann_file'] = os.path.abspath(split)
    dataset.update(pipeline=pipeline if has_masks(dataset) else without_annotations(pipeline), test_mode=True)
    return dataset


def scored_dataset_cfg(cfg: Config, split: str) -> dict[str, Any]:
    """As :func:`export_dataset_cfg`, with masks to compare with.

    A second stage is trained on exported pseudo masks, which lie outside of the data set or have a manifest beside
    them; the masks of the test data take their place where both read the same images.

    Raises:
        ExportError: see :func:`export_dataset_cfg`; or the images of the test data are others.
    """
    dataset = export_dataset_cfg(cfg, split)
    prefix, root = _prefixes(dataset), os.path.abspath(dataset.get('data_root') or '.')
    masks = prefix.get('seg_map_path')
    if split in _TEST_SPLITS or not masks or _is_truth(os.path.join(root, masks), root):
        return dataset
    for loader in filter(cfg.get, _TEST_LOADERS):
        tested = _unwrapped(cfg[loader].dataset, loader)
        truth = _prefixes(tested)
        same = tested.get('data_root') == dataset.get('data_root') and truth.get('img_path') == prefix.get('img_path')
        if same and truth.get('seg_map_path'):
            return {**dataset, 'data_prefix': {**prefix, 'seg_map_path': truth['seg_map_path']}}
    raise ExportError(
        f'the masks in {masks}, which the training reads, are no truth for the split {split}; name the folder of true '
        'masks by --cfg-options train_dataloader.dataset.data_prefix.seg_map_path=FOLDER'
    )


def has_masks(dataset: Mapping[str, Any]) -> bool:
    """Whether a dataset of config ``dataset`` has masks, by its ``data_prefix`` or the one of its class."""
    return bool(_prefixes(dataset).get('seg_map_path'))


def _prefixes(dataset: Mapping[str, Any]) -> dict[str, Any]:
    kind = dataset['type']
    defaults = getattr(DATASETS.get(kind) if isinstance(kind, str) else kind, 'DATA_PREFIX', {})
    return {**defaults, **(dataset.get('data_prefix') or {})}


def _is_truth(masks: str, root: str) -> bool:
    masks = os.path.abspath(masks)
    return os.path.commonpath((masks, root)) == root and not os.path.isfile(
        os.path.join(os.path.dirname(masks), MANIFEST)
    )


def lacks_masks(dataset: Mapping[str, Any]) -> bool:
    """Whether config ``dataset`` says that there are no masks; False for a class that keeps them in its own way."""
    kind = dataset['type']
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    says = hasattr(kind, 'DATA_PREFIX') or 'seg_map_path' in (dataset.get('data_prefix') or {})
    return says and not has_masks(dataset)


def without_annotations(pipeline: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """``pipeline``, a list of transform configs, without those that load masks."""
    kinds = [TRANSFORMS.get(step['type']) if isinstance(step['type'], str) else step['type'] for step in pipeline]
    return [step for step, kind in zip(pipeline, kinds) if kind is None or not issubclass(kind, LoadAnnotations)]


def image_ids(dataset: BaseDataset) -> list[str]:
    """Id of each image, after which its mask file is named: ``img_id``, otherwise the file name without suffix.

    Raises:
        ExportError: two images have one id.
    """
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    ids = [info.get('img_id', Path(info['img_path']).stem) for info in infos]
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ExportError(f'{len(repeated)} image ids occur more than once, the first is {repeated[0]}; split the list')
    return ids


def image_labels(dataset: BaseDataset) -> list[np.ndarray | None]:
    """Image labels (K,) of each image, None where the dataset has none."""
    return [dataset.get_data_info(index).get('image_labels') for index in range(len(dataset))]


def truth_reader(dataset: BaseDataset) -> Callable[[int], np.ndarray] | None:
    """Function from an index to the true mask (H, W) of that image; None where the dataset loads no masks."""
    loader = next((step for step in dataset.pipeline.transforms if isinstance(step, LoadAnnotations)), None)
    if loader is None:
        return None
    return lambda index: loader(deepcopy(dataset.get_data_info(index)))['gt_seg_map']


def _unwrapped(dataset: Mapping[str, Any], loader: str) -> dict[str, Any]:
    while 'dataset' in dataset:  # RepeatDataset and the like
        dataset = dataset['dataset']
    if 'datasets' in dataset:
        raise ExportError(f'{loader} joins several datasets; export them one by one with a list file as split')
    return deepcopy(dict(dataset))


_TEST_SPLITS = ('test', 'val')
_TEST_LOADERS = tuple(f'{split}_dataloader' for split in _TEST_SPLITS)
