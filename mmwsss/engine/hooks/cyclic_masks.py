"""Hook that renews the masks of a training from the network that is being trained."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator

from mmwsss.engine.loops import ResumableIterBasedTrainLoop
from mmwsss.models.segmentors.multi_view_encoder_decoder import MultiViewEncoderDecoder, check_views
from mmwsss.pseudo_labels.crop_views import check_weak_views
from mmwsss.pseudo_labels.export import export_pseudo_labels, try_first
from mmwsss.pseudo_labels.export_data import ExportError, export_dataset_cfg, without_annotations
from mmwsss.pseudo_labels.export_folder import MANIFEST, MASKS
from mmwsss.pseudo_labels.labeler import PseudoLabeler
from mmwsss.pseudo_labels.manifest import ExportSource
from mmwsss.registry import DATASETS, HOOKS
from mmwsss.utils.files import write_json
from mmwsss.utils.seeding import seeded

from .cyclic_rounds import (
    is_of_other_weights,
    predicting,
    predicting_model,
    save_checkpoint,
    saves_checkpoint,
    weights_sha256,
)
from .iteration_hook import unwrap
from .pseudo_label_hook import labeling_with

POINTER = 'current.json'
_TRAINED_ON = 'cyclic_masks'  # in the message hub: SHA-256 of the weights whose masks are trained on


@HOOKS.register_module()
class CyclicPseudoMaskHook(Hook):
    """Train on the masks that the network itself predicts, renewed at chosen iterations (PMM, CP).

    The paper trains a second network on the predictions of the first; here the training goes on. At a renewal the
    network, or its average where an ``EMAHook`` keeps one, predicts the training images, see
    :func:`~mmwsss.pseudo_labels.export.export_pseudo_labels`. Round r writes ``out_dir/round-000r/masks`` beside the
    masks of earlier rounds. Only when all are there, ``out_dir/current.json`` is replaced and the training reads them,
    from the very next iteration: the data loader is built anew at its place, so that no worker has old masks in store.

    A checkpoint is saved before each renewal. A run that was killed in it resumes from there, makes the missing masks
    with the same weights, and one that was killed later reads the masks of its iteration, which its checkpoint names
    by the weights that made them. In distributed runs each process predicts its share with the weights and statistics
    of the first. The first image is tried before the training begins.

    Args:
        at: iterations after which masks are renewed, increasing; or
        epochs: the same in passes over the data.
        out_dir: folder of the rounds, by default ``cyclic_masks`` in the work dir.
        test_cfg: settings of ``model.test_cfg`` that differ from those of the model while it predicts, such as
            ``dict(views=dict(scales=(0.5, 1, 1.5), flip=True))`` or ``use_image_labels=True``.
        steps: configs of the steps of another pseudo labeler than the model's, e.g. ``Refine`` by a dense CRF and
            ``Decide``.
        dataset: settings that differ from those of the training images, read through the test pipeline without masks;
            ``data_prefix`` is merged. With a folder of true masks the manifest of each round holds their scores, and
            ``label_source`` can give the image labels.
        batch_size, num_workers: of the loading of images to predict; a resumed renewal gives the same to the last bit
            where images are predicted one by one.
        workers: threads for refinement and writing.

    Raises:
        ValueError: both or neither of ``at`` and ``epochs``, or numbers that do not increase; when the training starts,
            a train dataset without masks, ``use_image_labels`` without a source, other points or masks than those of
            the resumed run, or steps that cannot work on the first image.
        TypeError: when the training starts, another loop than :class:`ResumableIterBasedTrainLoop`, or a model that
            cannot be exported from.
        FileNotFoundError: when a run is resumed after a renewal whose masks are not in ``out_dir``.
    """

    priority = 'LOWEST'  # after the checkpoint of the same iteration

    def __init__(
        self,
        at: Sequence[int] | None = None,
        epochs: Sequence[float] | None = None,
        out_dir: str | os.PathLike | None = None,
        test_cfg: Mapping[str, Any] | None = None,
        steps: Sequence[Mapping[str, Any]] | None = None,
        dataset: Mapping[str, Any] | None = None,
        batch_size: int = 1,
        num_workers: int = 2,
        workers: int = 2,
    ) -> None:
        points = list(at or epochs or ())
        if bool(at) == bool(epochs) or points != sorted(set(points)) or points[0] <= 0:
            raise ValueError(f'CyclicPseudoMaskHook takes increasing numbers as at or as epochs, got {at} and {epochs}')
        self.at = None if at is None else _distinct([int(point) for point in at], at)
        self.epochs = epochs
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.test_cfg = dict(test_cfg or {})
        self.steps = steps
        self.labeler = None if steps is None else PseudoLabeler(steps)
        self.dataset_changes = dict(dataset or {})
        self.loading = dict(batch_size=batch_size, num_workers=num_workers)
        self.workers = workers
        self._dataset_cfg: dict[str, Any] = {}
        self._dataset = None

    def before_train(self, runner: Runner) -> None:
        """Check the settings, and bring a resumed run to the masks of its iteration."""
        self._check(runner)
        check = check_views if isinstance(unwrap(runner.model), MultiViewEncoderDecoder) else check_weak_views
        check(self.test_cfg.get('views'))
        self.out_dir = Path(runner.work_dir) / 'cyclic_masks' if self.out_dir is None else self.out_dir
        if self.at is None:
            loader = runner.train_dataloader
            epoch = len(loader.dataset) / (loader.batch_size * get_world_size())
            self.at = _distinct([max(round(epoch * count), 1) for count in self.epochs], self.epochs)
        if (late := [point for point in self.at if point >= runner.max_iters]) and is_main_process():
            text = f'masks are not renewed at {late}: the training ends after {runner.max_iters} iterations'
            print_log(text, 'current', logging.WARNING)
        self._dataset_cfg = self._export_cfg(runner)
        self._dataset = DATASETS.build(deepcopy(self._dataset_cfg))
        if self.test_cfg.get('use_image_labels') and 'image_labels' not in self._dataset.get_data_info(0):
            raise ValueError('use_image_labels of CyclicPseudoMaskHook needs a source: dataset=dict(label_source=...)')
        self._refuse_other_points(runner)
        if runner.iter >= runner.max_iters:  # it was resumed at its end
            return
        self._try(runner)
        done = [point for point in self.at if point <= runner.iter]
        if done and done[-1] == runner.iter:
            self._renew(runner, runner.iter)
        elif done:
            self._switch(runner, self._known_masks(runner, done[-1]), runner.iter)
        else:
            self._point_to(None)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Renew the masks where ``at`` says so and the training goes on."""
        iteration = runner.iter + 1
        if iteration in self.at and iteration < runner.max_iters:
            if not saves_checkpoint(runner):
                save_checkpoint(runner, iteration)
            barrier()
            self._renew(runner, iteration)

    def _check(self, runner: Runner) -> None:
        loop, model = runner.train_loop, unwrap(runner.model)
        if not isinstance(loop, ResumableIterBasedTrainLoop):
            raise TypeError(
                f'CyclicPseudoMaskHook needs train_cfg.type ResumableIterBasedTrainLoop, got {type(loop).__name__}'
            )
        if not hasattr(model, 'viewed_outputs'):
            raise TypeError(
                f'CyclicPseudoMaskHook cannot predict masks with {type(model).__name__}; for one of mmseg set '
                'model.type=MultiViewEncoderDecoder'
            )
        if not (runner.cfg.train_dataloader.dataset.get('data_prefix') or {}).get('seg_map_path'):
            raise ValueError(
                'CyclicPseudoMaskHook needs train_dataloader.dataset.data_prefix.seg_map_path, the masks to start with'
            )

    def _refuse_other_points(self, runner: Runner) -> None:
        # Those of epochs change with the number of processes; the run would go back to its first masks.
        pointer = self.out_dir / POINTER
        if runner.iter and pointer.is_file():
            last = json.loads(pointer.read_text(encoding='utf-8'))['iteration']
            if last <= runner.iter and last not in self.at:
                raise ValueError(
                    f'masks were renewed at iteration {last}, which is none of {self.at}; set at as it was'
                )

    def _export_cfg(self, runner: Runner) -> dict[str, Any]:
        """Config of the training images as they are predicted."""
        cfg = export_dataset_cfg(runner.cfg, 'train')
        prefix = {**(cfg.get('data_prefix') or {}), 'seg_map_path': None, **self.dataset_changes.get('data_prefix', {})}
        cfg.update(dict(label_source=None) if cfg.get('label_source') is not None else {})
        cfg.update({**self.dataset_changes, 'data_prefix': prefix})
        if prefix['seg_map_path'] is None:
            cfg['pipeline'] = without_annotations(cfg['pipeline'])
        return cfg

    def _round(self, iteration: int) -> tuple[int, Path]:
        number = self.at.index(iteration) + 1
        return number, self.out_dir / f'round-{number:04d}'

    def _try(self, runner: Runner) -> None:
        model = predicting_model(runner)
        with predicting(model, self.test_cfg), labeling_with(model, self.labeler):
            try:
                try_first(model, self._dataset)
            except ExportError as error:
                raise ExportError(f'CyclicPseudoMaskHook: {error}') from error

    def _renew(self, runner: Runner, iteration: int) -> None:
        """Predict all masks, or those that an interrupted renewal left, and train on them from now on."""
        number, folder = self._round(iteration)
        model = predicting_model(runner)
        with predicting(model, self.test_cfg), labeling_with(model, self.labeler):
            weights = weights_sha256(model)
            try:
                result = export_pseudo_labels(
                    model,
                    self._dataset,
                    folder,
                    self._source(runner, iteration, weights),
                    workers=self.workers,
                    overwrite=is_of_other_weights(folder, weights),
                    progress=False,
                    **self.loading,
                )
            except ExportError as error:
                advice = f'; remove {folder}, so that the masks are made anew' if error.overwrite else ''
                raise ExportError(f'round {number} of masks in {folder}: {error.problem}{advice}') from error
        runner.message_hub.update_info(_TRAINED_ON, weights)
        if result.manifest is not None:
            scores = ''.join(f', {name} {value}' for name, value in result.manifest['scores'].items())
            runner.logger.info(f'Renewed masks, round {number}: {result.masks}, {result.written} written{scores}')
        self._point_to(dict(round=number, iteration=iteration, masks=str(result.masks.relative_to(self.out_dir))))
        self._switch(runner, result.masks, iteration)

    def _source(self, runner: Runner, iteration: int, weights: str) -> ExportSource:
        cfg = deepcopy(runner.cfg)
        cfg.model.test_cfg = {**(cfg.model.get('test_cfg') or {}), **self.test_cfg}
        own = cfg.model.get('pseudo_labeler')
        steps = self.steps if self.steps is not None else None if own is None else own['steps']
        source = ExportSource.of(cfg, 'train', steps, self._dataset_cfg, iteration=iteration)
        return replace(source, checkpoint_sha256=weights)

    def _known_masks(self, runner: Runner, iteration: int) -> Path:
        """Folder of the masks of a finished renewal, those that the resumed run was trained on."""
        number, folder = self._round(iteration)
        if not (folder / MANIFEST).is_file():
            raise FileNotFoundError(
                f'the run was trained on the masks of round {number}, {folder} does not hold them; resume in its work '
                f'dir, set out_dir of CyclicPseudoMaskHook, or resume from a checkpoint up to iteration {iteration}'
            )
        made_by = json.loads((folder / MANIFEST).read_text(encoding='utf-8'))['checkpoint']['sha256']
        trained_on = runner.message_hub.runtime_info.get(_TRAINED_ON)
        if trained_on is not None and trained_on != made_by:  # None: a checkpoint of before this was noted
            raise ValueError(
                f'{folder} holds masks of other weights than those that the run was trained on, as a run from an '
                f'earlier checkpoint makes them; resume from a checkpoint up to iteration {iteration} or in another '
                'work dir'
            )
        masks = folder / MASKS
        self._point_to(dict(round=number, iteration=iteration, masks=str(masks.relative_to(self.out_dir))))
        return masks

    def _point_to(self, entry: dict[str, Any] | None) -> None:
        """Say in the folder which masks are trained on; None for those of the config."""
        if is_main_process():
            if entry is None:
                (self.out_dir / POINTER).unlink(missing_ok=True)
            else:
                write_json(self.out_dir / POINTER, entry)
        barrier()

    def _switch(self, runner: Runner, masks: Path, iteration: int) -> None:
        """Go on with the sample of ``iteration`` and these masks, in a data loader with new workers."""
        loop, cfg = runner.train_loop, deepcopy(runner.cfg.train_dataloader)
        cfg.dataset.data_prefix.seg_map_path = str(masks.absolute())
        order = loop.dataloader.sampler.seed
        loop.dataloader = loop.dataloader_iterator = None  # its workers end before new ones inherit their queues
        with seeded(runner.seed, iteration):  # a data loader draws from the global generators
            loop.dataloader = runner.build_dataloader(cfg, seed=runner.seed)
            loop.dataloader.sampler.seed = order
            loop.dataloader.sampler.start_at(iteration * loop.dataloader.batch_size)
            loop.dataloader_iterator = _InfiniteDataloaderIterator(loop.dataloader)


def _distinct(points: list[int], given: Sequence[float]) -> list[int]:
    if len(set(points)) < len(points):
        raise ValueError(f'CyclicPseudoMaskHook: {list(given)} are the iterations {points}, one of them twice')
    return points
