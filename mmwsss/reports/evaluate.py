"""Run a checkpoint over a split and record what a report shows; a record that is up to date is used again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.runner import Runner
from mmseg.structures import SegDataSample
from PIL import Image, ImageOps

from mmwsss.apis import launch
from mmwsss.apis.building import config_mistake
from mmwsss.apis.testing import innermost, one_line, run_test
from mmwsss.datasets.checks import DatasetError, read_mask
from mmwsss.evaluation import WSSSMetric, protocol_from_scores
from mmwsss.evaluation.confusion import iou_from_confusion
from mmwsss.evaluation.record import settings_sha256
from mmwsss.pseudo_labels.export_data import (
    SPLITS,
    ExportError,
    image_ids,
    lacks_masks,
    scored_dataset_cfg,
    truth_reader,
)
from mmwsss.registry import DATASETS
from mmwsss.utils.files import file_sha256, locked
from mmwsss.utils.images import UNREADABLE, read_sample_image
from mmwsss.utils.progress import counted

from .collect import OWN_FOLDER, Run, check_same_classes
from .recording import Evaluation, Recorder, read_evaluation

_VERSION = 2  # of the records; older ones are made again
_FIELDS = {
    'truth': 'gt_sem_seg', 'maps': 'localization_maps', 'pseudo': 'pseudo_mask', 'prediction': 'pred_sem_seg',
}  # fmt: skip


class RecordHook(Hook):
    """Hand every image of a test to a :class:`Recorder`.

    Args:
        recorder: gets the samples in the order of the data set.
        names: ids of the images.
        count: is called after each image.
    """

    priority = 'LOW'

    def __init__(self, recorder: Recorder, names: Sequence[str], count: Callable[[], None]) -> None:
        self.recorder, self.count = recorder, count
        self.settings: dict[str, float] = {}
        self._names: Iterator[str] = iter(names)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        """Record the samples of a batch."""
        for sample in outputs or ():
            image = read_sample_image(sample, 'cpu', 'the report')[0].permute(1, 2, 0).numpy()
            found = {kind: _array(sample, field) for kind, field in _FIELDS.items()}
            masks = {k: v if v is None or k == 'maps' else v[0].astype(np.int64) for k, v in found.items()}
            self.recorder.add(next(self._names), image, **masks)
            for kind, key in (('maps', 'bg_setting'), ('pseudo', 'pseudo_bg_setting')):
                if sample.get(key) is not None:
                    self.settings[kind] = float(sample.get(key))
            self.count()


def load_run_config(run: Run, options: dict[str, Any] | None = None) -> Config:
    """Config of ``run`` for a test of one process that writes nothing but its log, and logs nothing but warnings.

    Raises:
        UsageError: the run has no config, or ``options`` do not fit.
    """
    if run.config is None:
        raise launch.UsageError(f'{run.folder} has no config of a training; name one by --config FILE')
    cfg = launch.load_config(str(run.config), options)
    while 'module' in cfg.model:  # test time augmentation and protocols of an evaluation
        cfg.model = cfg.model.module
    cfg.launcher, cfg.resume = 'none', False
    cfg.log_level = 'WARNING'  # environment, config and hooks are a matter of trainings and tests
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks', ()) if 'PanelHook' not in str(hook['type'])]
    cfg.get('default_hooks', {}).pop('visualization', None)
    # Not those of the config: a report should not send anything to a server.
    cfg.visualizer = dict(
        type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name=f'report {run.name}'
    )
    return cfg


def check_classes(runs: Sequence[tuple[Run, Config]], split: str) -> None:
    """Compare the classes of the data that :func:`evaluate` would run on, without reading the data.

    Raises:
        UsageError: they are different, or a config has no such data or does not fit this version.
    """
    classes = {}
    for run, cfg in runs:
        dataset = dict(_dataset_cfg(run, cfg, split), pipeline=[], lazy_init=True)
        with _building(run), DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmwsss'):
            classes[run.name] = DATASETS.build(dataset).metainfo.get('classes', ())
    check_same_classes(classes)


def evaluate(run: Run, cfg: Config, split: str, predictions: str | None = None) -> Evaluation:
    """Record of ``run`` on ``split`` in its work dir, made by its checkpoint unless there is one that is up to date.

    Args:
        split: as in :func:`scored_dataset_cfg`.
        predictions: folder of masks to show and score instead, as ``tools/test.py --out`` writes them.

    Raises:
        UsageError: config, checkpoint, data and masks do not fit together, or another process writes the record.
    """
    dataset = _dataset_cfg(run, cfg, split)
    folder = run.folder / OWN_FOLDER / (split if split in SPLITS else f'list_{Path(split).stem}')
    key = _key(run, cfg, dataset, split, predictions)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder / '.lock'):
            stored = read_evaluation(folder) if predictions is None else None
            if stored is not None and stored.content.get('key') == key:
                print(f'{run.name}: evaluation of {split} read from {folder}')
                return stored
            make = _evaluate_checkpoint if predictions is None else _evaluate_masks
            made = make(run, cfg, dataset, folder, {'key': key, 'split': split}, predictions)
            print(f'{run.name}: evaluation of {split} written to {folder}')
            return made
    except BlockingIOError as error:
        raise launch.UsageError(f'another process evaluates into {folder}; wait for it') from error


def _dataset_cfg(run: Run, cfg: Config, split: str) -> dict[str, Any]:
    try:
        return scored_dataset_cfg(cfg, split)
    except ExportError as error:
        raise launch.UsageError(f'{run.name}: {error}') from error


@contextmanager
def _building(run: Run) -> Iterator[None]:
    """Raise UsageError where the block cannot build what the config of ``run`` names."""
    try:
        yield
    except (TypeError, KeyError, AssertionError) as error:
        reason = config_mistake(error) or one_line(error)
        raise launch.UsageError(
            f'{run.name}: {run.config} cannot be built by this version ({reason}); name '
            'another config by --config, or let --no-evaluation show what is stored'
        ) from error


def _key(run: Run, cfg: Config, dataset: dict[str, Any], split: str, predictions: str | None) -> dict[str, Any]:
    """What the content of a record depends on, images and masks aside."""
    return {
        'version': _VERSION,
        'split': split if split in SPLITS else file_sha256(split),
        'settings': settings_sha256({'model': cfg.model, 'dataset': dataset, 'metrics': _evaluators(cfg, dataset)}),
        'lists': {name: file_sha256(path) for name, path in _named_files(dataset, dataset.get('data_root') or '.')},
        'source': file_sha256(run.checkpoint) if predictions is None else str(Path(predictions).resolve()),
    }


def _named_files(settings: Any, root: str) -> Iterator[tuple[str, str]]:
    """Names in ``settings`` that are files, below ``root`` or the current folder, with their paths."""
    if isinstance(settings, str):
        if path := next(filter(os.path.isfile, (os.path.join(root, settings), settings)), None):
            yield settings, path
    elif isinstance(settings, Mapping | list | tuple):
        for value in settings.values() if isinstance(settings, Mapping) else settings:
            yield from _named_files(value, root)


def _evaluate_checkpoint(
    run: Run, cfg: Config, dataset: dict[str, Any], folder: Path, record: dict[str, Any], predictions: None
) -> Evaluation:
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
    sampler = dict(type='DefaultSampler', shuffle=False)
    cfg.test_dataloader = dict(loader, dataset=dataset, sampler=sampler, drop_last=False)
    cfg.test_cfg = cfg.get('test_cfg') or dict(type='TestLoop')
    cfg.test_evaluator = _evaluators(cfg, dataset)
    cfg.work_dir, cfg.load_from = str(folder), run.checkpoint
    with _building(run):
        runner = launch.build_runner(cfg)
    data = runner.test_loop.dataloader.dataset
    recorder = _recorder(folder, data)
    with counted(f'{run.name}: {Path(run.checkpoint).name} on {record["split"]}', len(data)) as count:
        hook = RecordHook(recorder, image_ids(data), count)
        runner.register_hook(hook)
        scores = run_test(runner, run.checkpoint)
    metrics = [metric for metric in runner.test_loop.evaluator.metrics if isinstance(metric, WSSSMetric)]
    settings = getattr(innermost(runner.model), 'test_cfg', None) or {}
    return recorder.finish(
        **record,
        scores=scores,
        per_class={name: values for metric in metrics for name, values in metric.per_class.items()},
        curves={name: curve for metric in metrics for name, curve in metric.curves.items()},
        settings=hook.settings,
        protocol=protocol_from_scores(scores, settings=settings),
        source=Path(run.checkpoint).name,
    )


def _evaluate_masks(
    run: Run, cfg: Config, dataset: dict[str, Any], folder: Path, record: dict[str, Any], predictions: str
) -> Evaluation:
    """Record of stored masks, whose files are named after the images."""
    init_default_scope(cfg.get('default_scope') or 'mmwsss')  # as a runner does it
    data = DATASETS.build(dataset)
    names, read_truth = image_ids(data), truth_reader(data)
    paths = [Path(predictions) / f'{Path(data.get_data_info(i)["img_path"]).stem}.png' for i in range(len(data))]
    if missing := [path for path in paths if not path.is_file()]:
        raise launch.UsageError(f'--predictions: {len(missing)} masks are missing, the first is {missing[0]}')
    recorder = _recorder(folder, data)
    with counted(f'{run.name}: {predictions} on {record["split"]}', len(names)) as count:
        for index, (name, path) in enumerate(zip(names, paths)):
            with Image.open(data.get_data_info(index)['img_path']) as picture:
                image = np.array(ImageOps.exif_transpose(picture).convert('RGB'))  # as a data set shows it
            mask = _predicted_classes(path, len(recorder.classes))
            if mask.shape != image.shape[:2]:
                raise launch.UsageError(f'--predictions: {path} is {mask.shape}, its image {image.shape[:2]}')
            truth = None if read_truth is None else read_truth(index).astype(np.int64)
            recorder.add(name, image, truth=truth, prediction=mask)
            count()
    scores, per_class = {}, {}
    if 'prediction' in recorder.totals:
        iou, miou = iou_from_confusion(recorder.totals['prediction'])
        scores['seg_mIoU'] = round(100 * float(miou), 2)
        per_class['seg_IoU'] = {c: round(100 * float(v), 2) for c, v in zip(recorder.classes, iou)}
    words = f'masks in {Path(predictions).name}; how they were made is not recorded'
    return recorder.finish(
        **record, scores=scores, per_class=per_class, curves={}, settings={}, protocol=words, source=words
    )


def _predicted_classes(path: Path, num_classes: int) -> np.ndarray:
    """Classes in a mask file, int64 (H, W).

    Raises:
        UsageError: it is no mask, or holds something else than classes; the message names it.
    """
    try:
        mask = read_mask(str(path)).astype(np.int64)
    except UNREADABLE as error:
        raise launch.UsageError(f'--predictions: {path}: {one_line(error)}') from error
    if mask.size and not 0 <= mask.min() <= mask.max() < num_classes:
        raise launch.UsageError(
            f'--predictions: {path} holds {mask.min()}..{mask.max()}, expected classes 0..{num_classes - 1}; masks '
            'with ignored pixels (255) are pseudo masks, no predictions'
        )
    return mask


def _evaluators(cfg: Config, dataset: dict[str, Any]) -> list[dict[str, Any]]:
    """``WSSSMetric`` as the config has it, or a new one; none where there is nothing to compare with."""
    if lacks_masks(dataset) and dataset.get('label_source') is None:
        return []
    given = cfg.get('test_evaluator') or cfg.get('val_evaluator') or []
    given = given if isinstance(given, list) else [given]
    return [next((dict(item) for item in given if 'WSSSMetric' in str(item['type'])), dict(type='WSSSMetric'))]


def _recorder(folder: Path, data: Any) -> Recorder:
    meta = data.metainfo
    if not meta.get('palette'):
        raise DatasetError(f'{type(data).__name__} has no palette; set metainfo=dict(palette=[[r, g, b], ...])')
    return Recorder(folder, meta['classes'], meta['palette'], data.ignore_index)


def _array(sample: SegDataSample, key: str) -> np.ndarray | None:
    return sample.get(key).data.detach().cpu().float().numpy() if key in sample else None
