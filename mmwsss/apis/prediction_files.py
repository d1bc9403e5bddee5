"""Predictions in files: masks, maps and pictures of an inference."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import mmcv
import numpy as np
import torch

from mmwsss.pseudo_labels.labeler import LabelState
from mmwsss.pseudo_labels.manifest import mask_palette
from mmwsss.pseudo_labels.stored_maps import maps_path, present_maps, write_maps
from mmwsss.utils.files import write_json, write_palette_png
from mmwsss.visualization.panels import make_panel, save_png

from .errors import UsageError, explained
from .image_loading import LoadedImage

if TYPE_CHECKING:
    from .inferencer import Prediction, WSSSInferencer

IGNORED = 255
_PENDING_PER_WORKER = 4


def check_writable(folder: str | os.PathLike, what: str) -> None:
    """Check that files can be written into ``folder``; one that does not exist is made for it and removed again.

    Raises:
        UsageError: they cannot; ``what`` names the argument that the folder came from.
    """
    folder = Path(folder)
    missing: list[Path] = []
    try:
        missing += [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if explained(error) is not None:  # a full disk
            raise
        reason = 'it is a file' if os.path.isfile(folder) else error.strerror
        raise UsageError(f'{what} {folder}: no files can be written there ({reason}); name another folder') from error
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


class PredictionWriter:
    """Writes predictions below ``out_dir``, in threads of its own; every file appears whole or not at all.

    - ``masks/<name>.png``: the segmentation as indices into the colours of the classes.
    - ``pseudo_masks/<name>.png``: the pseudo mask, 255 where it ignores.
    - ``maps/<name>.npz``: localization maps of the given classes, otherwise of the predicted ones; read them with
      :func:`~mmwsss.pseudo_labels.stored_maps.read_maps`.
    - ``panels/<name>.png``: image, maps, pseudo mask and segmentation side by side.
    - ``predictions.json``: config, weights, and for each image whose files are there its classes and scores; at the
      end, where a stream is left, and where it ends by an exception, even Ctrl-C.

    Files of the same name are replaced.

    Attributes:
        entries: what ``predictions.json`` says of each image, once its files are there.

    Raises:
        UsageError: two images have one name, or nothing can be written below ``out_dir``.
        ValueError: the classes do not fit in 8 bits, or maps are not finite.
    """

    def __init__(self, out_dir: str | os.PathLike, inferencer: WSSSInferencer) -> None:
        self.folder = Path(out_dir)
        self.inferencer = inferencer
        self.palette = mask_palette(dict(classes=inferencer.classes, palette=inferencer.palette), IGNORED)
        self.entries: dict[str, dict] = {}
        self.names: set[str] = set()
        self.workers = inferencer.num_workers
        self.pool = ThreadPoolExecutor(max(self.workers, 1), thread_name_prefix='predictions')
        self.pending: deque[tuple[str, dict, Future]] = deque()

    def __enter__(self) -> PredictionWriter:
        check_writable(self.folder, 'out_dir')
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        wanted = error is None or isinstance(error, GeneratorExit)  # who asks a stream for no more wants what there is
        failure: Exception | None = None
        try:
            while self.pending:
                try:
                    self._finish_oldest()
                except Exception as caught:  # the others may still succeed
                    failure = failure or caught
        finally:
            self.pool.shutdown(cancel_futures=True)
        if wanted and failure is None:
            self._write_record()
            return
        if self.entries:  # otherwise what was in the folder before is still there, and its record
            with suppress(OSError):  # the first error is the one to tell
                self._write_record()
        if wanted:
            raise failure

    def write(self, image: LoadedImage, prediction: Prediction) -> None:
        """Queue the files of one image; waits where many are queued."""
        if prediction.name in self.names:
            raise UsageError(f'two images are called {prediction.name} and would overwrite each other')
        self.names.add(prediction.name)
        while len(self.pending) >= _PENDING_PER_WORKER * max(self.workers, 1):
            self._finish_oldest()
        future = self.pool.submit(self._write_files, image, prediction)
        self.pending.append((prediction.name, self._entry(prediction), future))

    def _finish_oldest(self) -> None:
        name, entry, future = self.pending[0]
        wait([future])  # an image stays pending where Ctrl-C ends this
        self.pending.popleft()
        future.result()
        self.entries[name] = entry

    def _write_files(self, image: LoadedImage, prediction: Prediction) -> None:
        name = prediction.name
        for folder, mask in (('masks', prediction.segmentation), ('pseudo_masks', prediction.pseudo_mask)):
            if mask is not None:
                write_palette_png(self.folder / folder / f'{name}.png', mask.astype(np.uint8), self.palette)
        if prediction.maps is not None:
            self._write_maps(prediction)
        picture = mmcv.imread(image.request.source.path) if image.image is None else image.image
        save_png(self.folder / 'panels' / f'{name}.png', self._panel(picture[..., ::-1], prediction))

    def _write_maps(self, prediction: Prediction) -> None:
        maps = torch.from_numpy(prediction.maps)[None]
        shown = prediction.predicted_labels if prediction.labels is None else prediction.labels
        state = LabelState(
            maps=maps,
            has_background=maps.shape[1] == len(self.inferencer.classes),
            size=tuple(maps.shape[-2:]),
            labels=torch.from_numpy(shown)[None],
        )
        write_maps(maps_path(self.folder / 'maps', prediction.name), *present_maps(state))

    def _panel(self, picture: np.ndarray, prediction: Prediction) -> np.ndarray:
        shown = prediction.labels
        if shown is None and prediction.predicted_labels is not None and prediction.predicted_labels.any():
            shown = prediction.predicted_labels
        return make_panel(
            np.ascontiguousarray(picture),
            prediction.maps,
            prediction.pseudo_mask,
            None,
            self.inferencer.classes,
            self.inferencer.palette,
            prediction=prediction.segmentation,
            image_labels=shown,
            used_image_labels=prediction.used_labels,
            ignore_index=IGNORED,
        )

    def _entry(self, prediction: Prediction) -> dict:
        names = self.inferencer.classes
        entry = dict(
            path=prediction.path,
            classes_in_mask=[names[value] for value in np.unique(prediction.segmentation) if value > 0],
        )
        if prediction.scores is not None:
            entry['scores'] = {name: round(float(score), 4) for name, score in zip(names[1:], prediction.scores)}
        if prediction.labels is not None:
            entry['given_classes'] = [name for name, label in zip(names[1:], prediction.labels) if label > 0.5]
        return entry

    def _write_record(self) -> None:
        inferencer = self.inferencer
        content = dict(
            config=inferencer.config.filename,
            weights=inferencer.checkpoint,
            classes=inferencer.classes,
            test_cfg=dict(inferencer.model.test_cfg or {}),
            images=dict(sorted(self.entries.items())),
            skipped=[problem._asdict() for problem in inferencer.skipped],
        )
        write_json(self.folder / 'predictions.json', content)
