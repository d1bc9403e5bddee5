"""Hook that exports pseudo masks from a training."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmwsss.pseudo_labels.export import export_pseudo_labels
from mmwsss.pseudo_labels.export_data import export_dataset_cfg
from mmwsss.pseudo_labels.labeler import PseudoLabeler
from mmwsss.pseudo_labels.manifest import ExportSource
from mmwsss.registry import DATASETS, HOOKS


@HOOKS.register_module()
class PseudoLabelExportHook(Hook):
    """Write the pseudo masks of a dataset with the weights of the training, see :func:`export_pseudo_labels`.

    Weights differ from export to export, so masks that lie in the folder are replaced. In distributed runs each process
    exports its share. The training goes on as if nothing had happened: module modes and random states are restored.

    Args:
        out_dir: folder of ``masks`` and ``manifest.json``.
        dataloader: ``dataset`` (a config with a test pipeline), ``batch_size`` and ``num_workers``; by default the
            training images through the test pipeline, loaded as in the test.
        steps: configs of the steps of another pseudo labeler than the model's.
        interval: export every so many iterations into ``out_dir/iter_<n>``; None exports once, after the training.
        workers: threads for refinement and writing.

    Raises:
        ExportError: the config has no dataset or no test pipeline for it; when the training starts.
    """

    priority = 'LOW'

    def __init__(
        self,
        out_dir: str | os.PathLike,
        dataloader: Mapping[str, Any] | None = None,
        steps: Sequence[Mapping[str, Any]] | None = None,
        interval: int | None = None,
        workers: int = 2,
    ) -> None:
        if interval is not None and interval < 1:
            raise ValueError(f'PseudoLabelExportHook: interval has to be None or at least 1, got {interval}')
        self.out_dir = Path(out_dir)
        self.dataloader = dataloader
        self.steps = steps
        self.labeler = None if steps is None else PseudoLabeler(steps)
        self.interval = interval
        self.workers = workers
        self._dataset_cfg: dict[str, Any] = {}
        self._dataset = None
        self._loading: dict[str, int] = {}

    def before_train(self, runner: Runner) -> None:
        """Build the dataset, so that bad files are found before the first iteration."""
        loader = self.dataloader
        if loader is None:
            test = runner.cfg.get('test_dataloader') or runner.cfg.get('val_dataloader') or {}
            loader = {**test, 'dataset': export_dataset_cfg(runner.cfg, 'train')}
        self._dataset_cfg = deepcopy(dict(loader['dataset']))
        self._dataset = DATASETS.build(loader['dataset'])
        self._loading = {key: loader[key] for key in ('batch_size', 'num_workers') if key in loader}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Export where ``interval`` says so."""
        if self.interval is not None and self.every_n_train_iters(runner, self.interval):
            self._export(runner, self.out_dir / f'iter_{runner.iter + 1}', runner.iter + 1)

    def after_train(self, runner: Runner) -> None:
        """Export the result of the training where there is no ``interval``."""
        if self.interval is None:
            self._export(runner, self.out_dir, runner.iter)

    def _export(self, runner: Runner, folder: Path, iteration: int) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        own = runner.cfg.model.get('pseudo_labeler')
        steps = self.steps if self.steps is not None else None if own is None else own['steps']
        split = 'train' if self.dataloader is None else 'hook'
        source = ExportSource.of(runner.cfg, split, steps, self._dataset_cfg, iteration=iteration)
        with labeling_with(model, self.labeler):
            result = export_pseudo_labels(
                model,
                self._dataset,
                folder,
                source,
                workers=self.workers,
                overwrite=True,
                progress=False,
                **self._loading,
            )
        if result.manifest is not None:
            scores = ''.join(f', {name} {value}' for name, value in result.manifest['scores'].items())
            text = f'{result.written} pseudo masks in {result.masks}, {result.seconds:.1f} s'
            runner.logger.info(f'{text}{scores}')


@contextmanager
def labeling_with(model: nn.Module, labeler: PseudoLabeler | None) -> Iterator[None]:
    """Give ``model`` another pseudo labeler inside the block, where there is one."""
    own = model.pseudo_labeler
    model.pseudo_labeler = labeler or own
    try:
        yield
    finally:
        model.pseudo_labeler = own
