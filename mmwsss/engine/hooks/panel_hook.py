"""Hook that draws the first predictions of an evaluation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import mmcv
import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend
from mmseg.structures import SegDataSample

from mmwsss.registry import HOOKS
from mmwsss.visualization.panels import make_panel, montage, save_png


@HOOKS.register_module()
class PanelHook(Hook):
    """Write panels (image | maps | pseudo mask | truth | prediction) of the first images of a test, and an overview.

    Files are ``<out_dir>/<number>_<image name>.png`` and ``<out_dir>/overview.png``, those of a validation lie in
    ``<out_dir>/val_<iteration>``. In distributed runs only the main process draws, from its own share of the images.
    Every other backend of the visualizer than the local one (TensorBoard, Weights & Biases) gets the same pictures as
    ``panels/<number>_<image name>`` and ``panels/overview`` of a test, ``val_panels/...`` of a validation, at the
    iteration of the training.

    Args:
        out_dir: folder for the pictures, by default ``panels`` in the log folder of the run.
        num_images: number of images, in the order of the dataset.
        val_interval: draw in every n-th validation of this process; 0 draws in tests only.
        max_maps: number of heat maps per panel.
        overview_rows: number of panels in ``overview.png``.
        ignore_index: label drawn in light grey.
    """

    priority = 'LOW'

    def __init__(
        self,
        out_dir: str | os.PathLike | None = None,
        num_images: int = 16,
        val_interval: int = 0,
        max_maps: int = 3,
        overview_rows: int = 8,
        ignore_index: int = 255,
    ) -> None:
        self.out_dir = out_dir
        self.num_images = num_images
        self.val_interval = val_interval
        self.max_maps = max_maps
        self.overview_rows = overview_rows
        self.ignore_index = ignore_index
        self._num_drawn = 0
        self._num_validations = 0
        self._panels: list[np.ndarray] = []

    def before_test_epoch(self, runner: Runner) -> None:
        """Start counting images."""
        self._restart()

    def before_val_epoch(self, runner: Runner) -> None:
        """Start counting images, and count the validation."""
        self._restart()
        self._num_validations += 1

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        """Draw the samples of the batch that are among the first ``num_images``."""
        self._draw(runner, outputs, runner.test_loop.dataloader.dataset.metainfo, self._folder(runner), 'panels')

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        """Like :meth:`after_test_iter`, in the validations that are to be drawn."""
        if self._draws_validation():
            metainfo = runner.val_loop.dataloader.dataset.metainfo
            self._draw(runner, outputs, metainfo, self._val_folder(runner), 'val_panels')

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write ``overview.png``."""
        self._finish(runner, self._folder(runner), 'panels')

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write ``overview.png`` of a validation that was drawn."""
        if self._draws_validation():
            self._finish(runner, self._val_folder(runner), 'val_panels')

    def _draws_validation(self) -> bool:
        return self.val_interval > 0 and self._num_validations % self.val_interval == 0

    def _restart(self) -> None:
        self._num_drawn = 0
        self._panels = []

    def _folder(self, runner: Runner) -> Path:
        return Path(self.out_dir) if self.out_dir is not None else Path(runner.log_dir) / 'panels'

    def _val_folder(self, runner: Runner) -> Path:
        return self._folder(runner) / f'val_{runner.iter:06d}'

    def _draw(
        self, runner: Runner, outputs: Sequence[SegDataSample] | None, metainfo: Mapping, folder: Path, group: str
    ) -> None:
        if not is_main_process():
            return
        for sample in (outputs or [])[: self.num_images - self._num_drawn]:
            panel = panel_of_sample(sample, metainfo, self.max_maps, self.ignore_index)
            self._save(runner, folder, group, f'{self._num_drawn:03d}_{Path(sample.img_path).stem}', panel)
            self._num_drawn += 1
            if len(self._panels) < self.overview_rows:
                self._panels.append(panel)

    def _finish(self, runner: Runner, folder: Path, group: str) -> None:
        if self._panels:
            self._save(runner, folder, group, 'overview', montage(self._panels))
            runner.logger.info(f'PanelHook: {self._num_drawn} panels in {folder}')
        self._restart()

    def _save(self, runner: Runner, folder: Path, group: str, name: str, picture: np.ndarray) -> None:
        save_png(folder / f'{name}.png', picture)
        for backend in runner.visualizer._vis_backends.values():
            if not isinstance(backend, LocalVisBackend):  # it would write the same file once more
                backend.add_image(f'{group}/{name}', picture, step=runner.iter)


def panel_of_sample(sample: SegDataSample, metainfo: Mapping, max_maps: int, ignore_index: int) -> np.ndarray:
    """Panel (H, W, 3) uint8 RGB of one predicted sample; its image is read again from ``img_path``.

    Raises:
        ValueError: the sample has no ``img_path``, or ``metainfo`` no classes or palette.
        FileNotFoundError: the image is not there.
    """
    if 'img_path' not in sample:
        raise ValueError('panels need the metainfo "img_path"; add it to meta_keys of the packing transform')
    if not metainfo.get('classes') or not metainfo.get('palette'):
        raise ValueError('panels need "classes" and "palette" in the METAINFO of the dataset')
    image = mmcv.imread(sample.img_path, channel_order='rgb')
    labels = sample.get('image_labels')
    maps = _array(sample, 'localization_maps')
    return make_panel(
        image,
        maps,
        _mask(sample, 'pseudo_mask'),
        _mask(sample, 'gt_sem_seg'),
        metainfo['classes'],
        metainfo['palette'],
        prediction=_mask(sample, 'pred_sem_seg'),
        image_labels=None if labels is None else labels.detach().cpu().numpy(),
        used_image_labels=bool(sample.get('used_image_labels', False)),
        ignore_index=ignore_index,
        max_maps=max_maps,
        fill_maps=True,
    )


def _array(sample: SegDataSample, key: str) -> np.ndarray | None:
    if key not in sample:
        return None
    return sample.get(key).data.detach().cpu().float().numpy()


def _mask(sample: SegDataSample, key: str) -> np.ndarray | None:
    mask = _array(sample, key)
    return None if mask is None else mask[0].astype(np.int64)
