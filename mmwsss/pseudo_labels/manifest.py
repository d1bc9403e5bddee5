"""What lies beside exported masks: who made them, what is in them, and how good they are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset

from mmwsss.datasets.checks import map_threads, read_mask
from mmwsss.datasets.voc import voc_colour_map
from mmwsss.evaluation import confusion
from mmwsss.evaluation.record import config_sha256, protocol_from_scores, settings_sha256
from mmwsss.utils.files import file_sha256, jsonable

from .crop_views import crop_views
from .export_data import ExportError, image_ids, image_labels, truth_reader

_IGNORED_COLOURS = ([224, 224, 192], [255, 255, 255], [127, 127, 127])


@dataclass(frozen=True)
class ExportSource:
    """Where exported masks come from.

    Args:
        config: file name of the config.
        config_sha256: SHA-256 of the config's text.
        model_sha256, dataset_sha256: SHA-256 of the settings of the model without its pseudo labeler, and of the
            dataset with its pipeline; these and not the whole config decide which masks belong together.
        split: name of the split or path of its list.
        steps: configs of the steps of the pseudo labeler; None where the model goes without one.
        step_checkpoints: SHA-256 of every checkpoint that a step names and of the config beside it, by those names.
        checkpoint: path of the weights, None during a training.
        checkpoint_sha256: SHA-256 of that file.
        iteration: of the training that exports, None outside of one.
    """

    config: str | None
    config_sha256: str
    split: str
    steps: Sequence[Mapping[str, Any]] | None = None
    checkpoint: str | None = None
    checkpoint_sha256: str | None = None
    iteration: int | None = None
    model_sha256: str | None = None
    dataset_sha256: str | None = None
    step_checkpoints: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        cfg: Config,
        split: str,
        steps: Sequence[Mapping[str, Any]] | None,
        dataset: Mapping[str, Any],
        checkpoint: str | None = None,
        iteration: int | None = None,
    ) -> ExportSource:
        """Source with the hashes of ``cfg``, of ``dataset`` (its config) and of the file ``checkpoint``."""
        model = {key: value for key, value in cfg.model.items() if key != 'pseudo_labeler'}
        return cls(
            config=cfg.filename,
            config_sha256=config_sha256(cfg),
            split=split,
            steps=jsonable(steps),
            checkpoint=checkpoint,
            checkpoint_sha256=None if checkpoint is None else file_sha256(checkpoint),
            iteration=iteration,
            model_sha256=settings_sha256(model),
            dataset_sha256=settings_sha256(dataset),
            step_checkpoints=checkpoint_hashes(steps),
        )

    def record(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        return {
            'config': {'filename': self.config, 'sha256': self.config_sha256},
            'checkpoint': {'path': self.checkpoint, 'sha256': self.checkpoint_sha256, 'iteration': self.iteration},
            'split': self.split,
            'steps': self.steps,
            'checkpoints of steps': dict(self.step_checkpoints),
        }


def checkpoint_hashes(steps: Any) -> dict[str, str]:
    """SHA-256 of the files that ``checkpoint`` anywhere in the configs ``steps`` names, by that name; of a URL itself.

    A file or work dir may get other weights under the same name, which make other masks; so may the file ``config``
    beside a checkpoint get other settings, whose whole text counts, with those of its bases.

    Raises:
        UsageError: there is no such checkpoint or config.
    """
    # late, as it imports the models, which import this package
    from mmwsss.apis.launch import find_checkpoint, load_config

    found: dict[str, str] = {}
    if isinstance(steps, Mapping):
        if isinstance(name := steps.get('checkpoint'), str):
            path = find_checkpoint(name, 'checkpoint of a step')
            found[name] = path if '://' in path else file_sha256(path)
            if isinstance(config := steps.get('config'), str):
                found[config] = config_sha256(load_config(config))
        steps = list(steps.values())
    if isinstance(steps, (list, tuple)):
        for entry in steps:
            found |= checkpoint_hashes(entry)
    return found


def export_identity(
    source: ExportSource,
    ids: Sequence[str],
    labels: Sequence[np.ndarray | None] | None,
    store_maps: bool = False,
) -> dict[str, Any]:
    """What has to be the same for masks to belong together, as JSON has it.

    Args:
        labels: image labels (K,) of each image, None where the masks are made without.
        store_maps: whether the maps are kept beside the masks.
    """
    return jsonable(
        {
            'model config': source.model_sha256,
            'dataset config': source.dataset_sha256,
            'checkpoint sha256': source.checkpoint_sha256,
            'iteration': source.iteration,
            'steps': source.steps,
            'checkpoints of steps': dict(source.step_checkpoints),
            'use of image labels': labels is not None,
            'images': {'number': len(ids), 'sha256': hashlib.sha256('\n'.join(ids).encode()).hexdigest()},
            'image labels': None if labels is None else _labels_sha256(labels),
            'maps': store_maps or None,
        }
    )


def protocol_of_masks(used_image_labels: bool, views: Mapping[str, Any] | None) -> str:
    """How pseudo masks were made, in the words of :func:`~mmwsss.evaluation.record.protocol_from_scores`."""
    scales = None
    if views is not None:
        crops = crop_views(views)
        if crops is not None:
            scales = crops.in_words()
        else:
            scales = f'views at scales {", ".join(f"{scale:g}" for scale in views["scales"])}'
            scales += ' with mirror images' if views.get('flip', False) else ''
    return protocol_from_scores([_score_name('mIoU', used_image_labels)], scales)


def mask_palette(metainfo: Mapping[str, Any], ignore_index: int) -> list[list[int]]:
    """Colours of the values 0 to ``ignore_index``: those of the dataset, VOC's where it has none, black between.

    The colour of ``ignore_index`` is one that no class has.

    Raises:
        ExportError: the classes or ``ignore_index`` do not fit in 8 bits.
    """
    count = len(metainfo['classes'])
    if not count <= ignore_index <= 255:
        raise ExportError(
            f'masks are written with 8 bits: {count} classes and ignore_index {ignore_index} do not fit; '
            'ignore_index has to be above the classes and at most 255'
        )
    colours = [list(colour) for colour in metainfo.get('palette') or voc_colour_map(count)]
    ignored = next(colour for colour in _IGNORED_COLOURS if colour not in colours)
    return colours[:count] + [[0, 0, 0]] * (ignore_index - count) + [ignored]


def describe_masks(dataset: BaseDataset, folder: Path, used_image_labels: bool) -> dict[str, Any]:
    """Classes and scores of the masks ``folder/<id>.png`` of every image of ``dataset``, read from the files.

    Returns:
        Parts of a manifest: ``scores`` and ``per_class`` in percent (empty without true masks), ``images``.

    Raises:
        ExportError: a mask holds a value that is no class, or has another size than the true one.
    """
    classes, ids = list(dataset.metainfo['classes']), image_ids(dataset)
    truth, ignore_index = truth_reader(dataset), dataset.ignore_index

    def read(index: int) -> tuple[list[int], torch.Tensor | None]:
        mask = read_mask(str(mask_path(folder, ids[index])))
        values = [int(value) for value in np.unique(mask) if value != ignore_index]
        if values and values[-1] >= len(classes):
            raise ExportError(
                f'{mask_path(folder, ids[index])} holds {values[-1]}, expected classes below {len(classes)}'
            )
        counts = None if truth is None else _counts(mask, truth(index), len(classes), ignore_index, ids[index])
        return values, counts

    found = map_threads(read, range(len(dataset)), f'reading the masks in {folder}')
    images = {
        name: {
            'classes': [classes[value] for value in values],
            'image_labels': None if labels is None else [classes[1 + int(k)] for k in np.flatnonzero(labels > 0.5)],
        }
        for name, (values, _), labels in zip(ids, found, image_labels(dataset))
    }
    total = None if truth is None else sum(counts for _, counts in found)
    return {**_scores(total, classes, used_image_labels), 'images': images}


def mask_path(folder: Path, image_id: str) -> Path:
    """File of one mask."""
    return folder / f'{image_id}.png'


def _counts(mask: np.ndarray, truth: np.ndarray, num_classes: int, ignore_index: int, name: str) -> torch.Tensor:
    if mask.shape != truth.shape:
        raise ExportError(f'the pseudo mask of {name} is {mask.shape}, the true one {truth.shape} (height, width)')
    pred, label = (torch.from_numpy(array.astype(np.int64)) for array in (mask, truth))
    return confusion.confusion_matrix(pred, label, num_classes, ignore_index, ignored_column=True)


def _labels_sha256(labels: Sequence[np.ndarray | None]) -> str:
    digest = hashlib.sha256()
    for row in labels:
        digest.update(b'none' if row is None else np.asarray(row, dtype='<f4').tobytes())
    return digest.hexdigest()


def _score_name(score: str, used_image_labels: bool) -> str:
    return f'pseudo_{score}{"+tags" if used_image_labels else ""}'


def _scores(total: torch.Tensor | None, classes: Sequence[str], used_image_labels: bool) -> dict[str, dict]:
    if total is None:
        return {'scores': {}, 'per_class': {}}
    iou, miou = confusion.iou_from_confusion(total)
    per_class = {name: round(100 * value, 2) for name, value in zip(classes, iou.tolist())}
    return {
        'scores': {_score_name('mIoU', used_image_labels): round(100 * float(miou), 2)},
        'per_class': {_score_name('IoU', used_image_labels): per_class},
    }
