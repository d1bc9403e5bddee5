"""Scores of weakly supervised segmentation with their protocol in the name."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from prettytable import PrettyTable
from torch import Tensor

from mmwsss.registry import METRICS

from .. import confusion

TAGS = '+tags'


@METRICS.register_module()
class WSSSMetric(BaseMetric):
    """mIoU of the segmentation, the localization maps and the pseudo masks, and image-level mAP and F1, in percent.

    Reported names: ``seg_mIoU``; ``maps_mIoU`` (configured background setting), ``maps_mIoU_best`` and
    ``maps_bg_best`` (best setting of the sweep); ``pseudo_mIoU`` (the final pseudo mask, whose ignored pixels are
    misses), ``pseudo_mIoU_best`` and ``pseudo_bg_best`` (sweep over ``pseudo_maps``; a sample with a pseudo mask but
    without ``pseudo_maps`` enters with its localization maps, unless a metainfo ``pseudo_bg_setting`` says that its
    mask comes from none); ``mAP``, ``f1_macro``, ``f1_micro``. Names of maps and pseudo masks end in ``+tags`` when
    ground-truth image labels were used for them. A score whose field no sample has is left out. Samples with
    ``protocol_masks`` (P, H, W) are scored on these and on ``image_scores`` alone (``<views>_mAP`` where their metainfo
    ``image_score_views`` is not 'ss'), as ``<protocol>_mIoU`` with the
    names in their metainfo ``protocols``.

    After an evaluation, on the main process, ``per_class`` holds {name: {class: percent}} and ``curves`` the sweeps:
    {'maps' or 'pseudo', with its '+tags': {'settings': S numbers, 'mIoU': S percentages, 'IoU': {class: S percentages},
    'background_channel': bool}}.

    Args:
        bg_grid: background settings of the sweep; by default 0, 0.05 .. 0.95 for maps without and 0.1 .. 10
            (geometric) for maps with a background channel. The configured setting is always added.
        ignore_index: label of pixels that do not count.
    """

    default_prefix = ''  # not None, of which mmengine warns

    def __init__(
        self,
        bg_grid: Sequence[float] | None = None,
        ignore_index: int = 255,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        self.bg_grid = None if bg_grid is None else [float(b) for b in bg_grid]
        self.ignore_index = ignore_index
        self.per_class: dict[str, dict[str, float]] = {}
        self.curves: dict[str, dict[str, Any]] = {}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Reduce each sample to its non-zero counts and its image scores.

        Raises:
            ValueError: a sample has neither ``gt_sem_seg`` nor ``image_labels``, or lacks the metainfo of its maps.
        """
        # One entry per sample, not one running sum per process: `evaluate` interleaves the entries of all ranks and
        # cuts the list at the size of the dataset, which removes exactly the samples that the distributed sampler
        # repeated. Counts are kept sparse, a few hundred numbers, however large the image and the grid.
        for sample in data_samples:
            try:
                self.results.append(self._entry(sample))
            except ValueError as error:
                raise ValueError(f'{sample.get("img_path", "sample without img_path")}: {error}') from error

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Sum the entries of all samples into the named scores.

        Raises:
            ValueError: samples with and without image labels, or with different background settings, are mixed.
        """
        tags = TAGS if _agreed(results, 'used_image_labels') else ''
        scores: dict[str, float] = {}
        self.per_class, self.curves = {}, {}
        self._report_protocols(scores, results)
        if (seg := self._total(results, 'seg')) is not None:
            self._report(scores, seg, 'seg', '')
        self._report_sweep(scores, results, 'maps', tags)
        if (pseudo := self._total(results, 'pseudo')) is not None:
            self._report(scores, pseudo, 'pseudo', tags)
        self._report_sweep(scores, results, 'pseudo', tags)
        self._report_image_scores(scores, results)
        self._log(len(results))
        return scores

    def background_settings(self, has_background: bool, configured: float) -> list[float]:
        """Settings of the sweep in ascending order, the configured one among them."""
        if self.bg_grid is not None:
            grid = self.bg_grid
        elif has_background:
            grid = [round(10 ** (i / 10), 4) for i in range(-10, 11)]
        else:
            grid = [i / 20 for i in range(20)]
        return sorted({*grid, configured})

    @property
    def _classes(self) -> Sequence[str]:
        classes = (self.dataset_meta or {}).get('classes')
        if not classes:
            raise ValueError('WSSSMetric needs dataset_meta["classes"]; the dataset must define `classes` in METAINFO')
        return classes

    def _entry(self, sample: dict) -> dict:
        entry = {}
        scores, labels = sample.get('image_scores'), sample.get('image_labels')
        if labels is None and 'gt_sem_seg' not in sample:
            raise ValueError('nothing to evaluate against: expected gt_sem_seg or image_labels, found neither')
        if scores is not None and labels is not None:
            entry['image'] = (_numpy(scores, np.float32), _numpy(labels, np.float32))
            if 'image_score_views' in sample:
                entry['image_score_views'] = sample['image_score_views']
        if 'gt_sem_seg' in sample:
            label = _data(sample, 'gt_sem_seg')[0]
            reduce = self._protocol_entries if 'protocol_masks' in sample else self._pixel_entries
            entry.update(reduce(sample, label))
        return entry

    def _protocol_entries(self, sample: dict, label: Tensor) -> dict:
        names, masks = tuple(_meta(sample, 'protocols')), _data(sample, 'protocol_masks')
        if len(names) != len(masks):
            raise ValueError(f'{len(masks)} protocol_masks need as many protocols, got {", ".join(names)}')
        counts = (confusion.confusion_matrix(mask, label, len(self._classes), self.ignore_index) for mask in masks)
        return {'protocols': names, **{(name, 'mask'): _sparse(count) for name, count in zip(names, counts)}}

    def _pixel_entries(self, sample: dict, label: Tensor) -> dict:
        entry = {}
        num_classes = len(self._classes)
        if 'pred_sem_seg' in sample:
            pred = _data(sample, 'pred_sem_seg')[0]
            entry['seg'] = _sparse(confusion.confusion_matrix(pred, label, num_classes, self.ignore_index))
        if 'localization_maps' in sample or 'pseudo_mask' in sample or 'pseudo_maps' in sample:
            entry['used_image_labels'] = bool(_meta(sample, 'used_image_labels'))
        if 'pseudo_mask' in sample:
            pred = _data(sample, 'pseudo_mask')[0]
            entry['pseudo'] = _sparse(
                confusion.confusion_matrix(pred, label, num_classes, self.ignore_index, ignored_column=True)
            )
        if 'localization_maps' in sample:
            self._add_sweep(entry, sample, 'maps', 'localization_maps', label)
        if 'pseudo_maps' in sample:
            self._add_sweep(entry, sample, 'pseudo', 'pseudo_maps', label, sample.get('pseudo_bg_setting'))
        elif 'pseudo_mask' in sample and 'localization_maps' in sample and 'pseudo_bg_setting' not in sample:
            entry['pseudo_sweep'], entry['pseudo_kind'] = entry['maps_sweep'], entry['maps_kind']
        return entry

    def _add_sweep(
        self, entry: dict, sample: dict, name: str, field: str, label: Tensor, configured: float | None = None
    ) -> None:
        maps, num_classes = _data(sample, field), len(self._classes)
        if maps.shape[0] not in (num_classes - 1, num_classes):
            raise ValueError(
                f'{field} must have {num_classes - 1} channels, or {num_classes} with a background channel, '
                f'got {maps.shape[0]}'
            )
        has_background = maps.shape[0] == num_classes
        configured = float(_meta(sample, 'bg_setting') if configured is None else configured)
        settings = self.background_settings(has_background, configured)
        histogram = confusion.sweep_histogram(maps, label, settings, has_background, num_classes, self.ignore_index)
        entry[f'{name}_sweep'] = _sparse(histogram)
        entry[f'{name}_kind'] = (has_background, configured)

    def _total(self, results: list[dict], key: Hashable) -> Tensor | None:
        entries = _collected(results, key)
        if not entries:
            return None
        total = np.zeros(entries[0][0], dtype=np.int64)
        for _, index, count in entries:
            total.reshape(-1)[index] += count  # indices of one sample are unique
        return torch.from_numpy(total)

    def _report(self, scores: dict[str, float], conf: Tensor, name: str, tags: str) -> None:
        iou, miou = confusion.iou_from_confusion(conf)
        scores[f'{name}_mIoU{tags}'] = _percent(miou)
        self.per_class[f'{name}_IoU{tags}'] = dict(zip(self._classes, map(_percent, iou)))

    def _report_protocols(self, scores: dict[str, float], results: list[dict]) -> None:
        for name in _agreed(results, 'protocols') or ():
            self._report(scores, self._total(results, (name, 'mask')), name, '')

    def _report_sweep(self, scores: dict[str, float], results: list[dict], name: str, tags: str) -> None:
        kind = _agreed(results, f'{name}_kind')
        if kind is None:
            return
        settings = self.background_settings(*kind)
        confs = confusion.confusion_from_sweep(self._total(results, f'{name}_sweep'))
        if name == 'maps':  # the pseudo mask at its own setting is counted directly
            self._report(scores, confs[settings.index(kind[1])], name, tags)
        iou, miou = confusion.iou_from_confusion(confs)
        self.curves[f'{name}{tags}'] = {
            'settings': settings,
            'mIoU': [_percent(value) for value in miou],
            'IoU': {cls: [_percent(value) for value in column] for cls, column in zip(self._classes, iou.T)},
            'background_channel': kind[0],
        }
        best = int(miou.nan_to_num(nan=-1.0).argmax())
        scores[f'{name}_mIoU_best{tags}'] = _percent(miou[best])
        scores[f'{name}_bg_best{tags}'] = round(settings[best], 4)

    def _report_image_scores(self, scores: dict[str, float], results: list[dict]) -> None:
        pairs = _collected(results, 'image')
        if not pairs:
            return
        image_scores, labels = (torch.from_numpy(np.stack(part)) for part in zip(*pairs))
        if image_scores.shape[1] != len(self._classes) - 1:
            raise ValueError(
                f'image_scores must have {len(self._classes) - 1} values, one per class without the background, '
                f'got {image_scores.shape[1]}'
            )
        precision = confusion.average_precision(image_scores, labels)
        macro, micro = confusion.f1_scores(image_scores, labels)
        views = _agreed(results, 'image_score_views')
        prefix = '' if views in (None, 'ss') else f'{views}_'
        values = {'mAP': precision.nanmean(), 'f1_macro': macro, 'f1_micro': micro}
        scores |= {f'{prefix}{name}': _percent(value) for name, value in values.items()}
        self.per_class[f'{prefix}AP'] = dict(zip(self._classes[1:], map(_percent, precision)))

    def _log(self, num_samples: int) -> None:
        table = PrettyTable(['class', *self.per_class], align='r')
        table.align['class'] = 'l'
        for name in self._classes:
            values = [column.get(name, np.nan) for column in self.per_class.values()]
            table.add_row([name, *('-' if np.isnan(v) else f'{v:.2f}' for v in values)])
        print_log(f'per class, in percent, {num_samples} samples:\n{table.get_string()}', logger='current')


def _data(sample: dict, key: str) -> Tensor:
    return sample[key]['data']


def _meta(sample: dict, key: str) -> Any:
    if key not in sample:
        raise ValueError(f'predict() must set the metainfo "{key}" on samples with maps or pseudo masks')
    return sample[key]


def _numpy(values: Any, dtype: type) -> np.ndarray:
    return torch.as_tensor(values).detach().cpu().numpy().astype(dtype)


def _sparse(counts: Tensor) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
    flat = counts.flatten()
    index = flat.nonzero().flatten()
    return tuple(counts.shape), index.cpu().numpy(), flat[index].cpu().numpy()


def _collected(results: list[dict], key: Hashable) -> list:
    entries = [entry[key] for entry in results if key in entry]
    if 0 < len(entries) < len(results):
        message = f'WSSSMetric: scores of "{key}" cover {len(entries)} of {len(results)} samples'
        print_log(message, logger='current', level=logging.WARNING)
    return entries


def _agreed(results: list[dict], key: str) -> Any:
    """The one value that all entries having ``key`` share, None when no entry has it."""
    values = {entry[key] for entry in results if key in entry}
    if len(values) > 1:
        what = {
            'used_image_labels': 'samples predicted with and without image labels',
            'protocols': 'samples predicted under different protocols',
        }.get(key, f'different kinds of maps or background settings {sorted(values)}')
        raise ValueError(f'WSSSMetric cannot mix {what} in one evaluation; evaluate them separately')
    return values.pop() if values else None


def _percent(value: Tensor | float) -> float:
    return round(float(value) * 100, 2)
