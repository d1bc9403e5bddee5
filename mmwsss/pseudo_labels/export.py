"""Pseudo masks of a whole dataset as PNG files that any segmentation network can be trained on."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.dist import all_gather_object, get_dist_info
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from mmwsss.evaluation.record import circumstances
from mmwsss.models.segmentors.weak_segmentor import first_view, stack_image_labels
from mmwsss.utils.files import write_json, write_palette_png
from mmwsss.utils.progress import counted
from mmwsss.utils.seeding import seeded

from .export_data import ExportError, image_ids, image_labels
from .export_folder import MANIFEST, export_folder
from .manifest import ExportSource, describe_masks, export_identity, mask_palette, mask_path, protocol_of_masks
from .stored_maps import maps_path, present_maps, write_maps

_IGNORED = 255  # in the mask of a LabelState, whatever the dataset uses
_PENDING_PER_WORKER = 4
Item = tuple[int, dict[str, Tensor], SegDataSample, Tensor | None]


@dataclass(frozen=True)
class ExportResult:
    """Outcome of one export; ``manifest`` is None on other processes than the first.

    Args:
        written, skipped: images of this run over all processes, and those that lay there before.
        seconds: from the first image to the last, without the reading of the masks for the manifest.
    """

    masks: Path
    written: int
    skipped: int
    seconds: float
    manifest: dict[str, Any] | None


def export_pseudo_labels(
    model: nn.Module,
    dataset: BaseDataset,
    out_dir: str | os.PathLike,
    source: ExportSource,
    *,
    batch_size: int = 1,
    num_workers: int = 0,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = True,
    store_maps: bool = False,
) -> ExportResult:
    """Write ``masks/<img_id>.png`` for every image of ``dataset`` and ``manifest.json`` below ``out_dir``.

    With ``store_maps`` the maps that each mask was decided from are kept as ``maps/<img_id>.npz``, see
    :func:`~mmwsss.pseudo_labels.stored_maps.write_maps`, for the present classes: those that the image labels name, or
    without them those that the method predicts.

    The network runs on this thread, :meth:`WeakSegmentor.pseudo_label` and the writing in threads beside it. Every file
    appears whole or not at all; images whose files are there are skipped, so that an interrupted export goes on when it
    is called again; a finished one stays as it is. Each process of a distributed run takes its share of what is left.
    Module modes and the states of the random generators are as before afterwards.

    Args:
        model: weak segmentor on its device; with ``pseudo_labeler=None`` masks are decided as its method does it.
        dataset: images through a test pipeline; image labels are used where it has them and the model's
            ``test_cfg.use_image_labels`` allows it.
        batch_size, num_workers: of the loading of images.
        workers: threads for the second half; 0 does everything in turn.
        overwrite: remove what lies in ``out_dir`` from another export, or from the same.
        progress: show a bar on the first process.
        store_maps: keep the maps.

    Raises:
        ExportError: ``out_dir`` holds masks of another model, checkpoint, dataset or chain of steps or of other image
            labels, or another process exports into it; the classes do not fit in 8 bits; the model makes no
            localization maps; or a step cannot work on an image, which is tried on the first one before anything is
            written. An error of one process is one of all.
    """
    if not hasattr(model, 'viewed_outputs'):
        raise ExportError(f'{type(model).__name__} makes no localization maps; export from a weak segmentor')
    palette, ids = mask_palette(dataset.metainfo, dataset.ignore_index), image_ids(dataset)
    use_labels = _uses_labels(model, dataset)
    identity = export_identity(source, ids, image_labels(dataset) if use_labels else None, store_maps)
    try_first(model, dataset)
    device = next(model.parameters()).device
    with export_folder(out_dir, ids, identity, overwrite, device) as folder:
        rank, world_size = get_dist_info()
        if folder.finished:
            manifest = folder.read_manifest() if rank == 0 else None
            return ExportResult(folder.masks, 0, len(ids), 0.0, manifest)
        start = time.perf_counter()
        maps = folder.maps if store_maps else None
        writer = _MaskWriter(model, folder.masks, maps, ids, palette, dataset.ignore_index)
        share = folder.left[rank::world_size]
        loader = DataLoader(
            Subset(dataset, share),
            batch_size=batch_size,
            num_workers=num_workers,
            collate_fn=pseudo_collate,
            generator=torch.Generator(),  # the global one would be drawn from
        )
        with (
            _failing_together(),
            _evaluating(model),
            seeded(0),
            counted('pseudo masks', len(share), progress and rank == 0) as advance,
        ):
            items = _network_items(model, loader, share, ids, use_labels)
            written = _run(items, writer, workers, advance)
        written_by_rank = all_gather_object(written)
        seconds = time.perf_counter() - start
        manifest = None
        with _failing_together():
            if rank == 0:
                classes = list(dataset.metainfo['classes'])
                described = describe_masks(dataset, folder.masks, use_labels)
                manifest = {
                    **source.record(),
                    'test_cfg': dict(model.test_cfg),
                    'used_image_labels': use_labels,
                    'classes': classes,
                    'palette': palette[: len(classes)],
                    'ignore_index': dataset.ignore_index,
                    'num_images': len(ids),
                    'maps': store_maps,
                    'runs': folder.end_run(written_by_rank, seconds),
                    **circumstances(device),
                    'protocol': protocol_of_masks(use_labels, model.test_cfg.get('views')),
                    **described,
                }
                write_json(folder.path / MANIFEST, manifest)
    return ExportResult(folder.masks, sum(written_by_rank), len(ids) - len(folder.left), seconds, manifest)


@torch.no_grad()
def try_first(model: nn.Module, dataset: BaseDataset) -> None:
    """Label the first image of ``dataset`` as an export does and drop the mask, so that mistakes show before long work.

    Raises:
        ExportError: a step cannot work on the image; on every process.
    """
    (name, *_), use_labels = image_ids(dataset), _uses_labels(model, dataset)
    with _failing_together(), _evaluating(model), seeded(0):
        batch = pseudo_collate([dataset[0]])
        for _, outputs, sample, labels in _network_items(model, [batch], [0], [name], use_labels):
            with _naming(name):
                model.pseudo_label(outputs, sample, labels)


class _MaskWriter:
    """Second half of the work on one image, for a thread of its own."""

    def __init__(
        self,
        model: nn.Module,
        folder: Path,
        maps: Path | None,
        ids: Sequence[str],
        palette: list[list[int]],
        ignore_index: int,
    ) -> None:
        self.model = model
        self.folder = folder
        self.maps = maps
        self.ids = ids
        self.palette = palette
        self.ignore_index = ignore_index

    @torch.no_grad()  # the mode belongs to a thread, so the caller's does not reach here
    def __call__(self, index: int, outputs: dict[str, Tensor], sample: SegDataSample, labels: Tensor | None) -> None:
        with torch.cuda.device_of(outputs['scores']), _naming(self.ids[index]):  # the first does nothing on a CPU
            state = self.model.pseudo_label(outputs, sample, labels)
            if self.maps is not None:
                kept = present_maps(state, self.model.presumed_labels(outputs['scores']))
                write_maps(maps_path(self.maps, self.ids[index]), *kept)
        mask = state.mask[0].to('cpu').numpy()
        mask = np.where(mask == _IGNORED, self.ignore_index, mask).astype(np.uint8)
        write_palette_png(mask_path(self.folder, self.ids[index]), mask, self.palette)


@torch.no_grad()
def _run(items: Iterator[Item], writer: _MaskWriter, workers: int, advance: Callable[[], None]) -> int:
    """Network on this thread, ``writer`` in ``workers`` threads with a bounded number of images between them.

    Returns:
        How many masks were written.
    """
    written = 0
    if workers == 0:
        for item in items:
            writer(*item)
            written += 1
            advance()
        return written
    pending: deque[Future] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix='pseudo_label')

    def finish_oldest() -> None:
        nonlocal written
        pending.popleft().result()
        written += 1
        advance()

    try:
        for item in items:
            while len(pending) >= _PENDING_PER_WORKER * workers or (pending and pending[0].done()):
                finish_oldest()
            pending.append(pool.submit(writer, *item))
        while pending:
            finish_oldest()
    finally:
        pool.shutdown(cancel_futures=True)
    return written


def _network_items(
    model: nn.Module, batches: Iterable[dict], indices: Sequence[int], ids: Sequence[str], use_labels: bool
) -> Iterator[Item]:
    """Index, network outputs (1, ...), sample and labels (1, K) of one image after the other."""
    position = iter(indices)
    for data in batches:
        batch = model.data_preprocessor(data, False)
        images, chosen = first_view(batch['inputs']), [next(position) for _ in batch['data_samples']]
        rows = []
        for index, sample in zip(chosen, batch['data_samples'] if use_labels else ()):
            with _naming(ids[index]):
                rows.append(stack_image_labels([sample], model.num_classes - 1).to(images.device))
        outputs = model.viewed_outputs(images, torch.cat(rows) if rows else None)
        for i, (index, sample) in enumerate(zip(chosen, batch['data_samples'])):
            labels = rows[i] if use_labels else None
            # Copies, so that an image that waits does not keep its whole batch.
            yield index, {name: outputs[name][i : i + 1].clone() for name in model.pseudo_inputs}, sample, labels


@contextmanager
def _failing_together() -> Iterator[None]:
    """Make an error of one process inside the block an error of all, which would wait for it at the next exchange."""
    caught = None
    try:
        yield
    except Exception as error:  # whatever it is, the others wait for an answer
        caught = error
    problems = all_gather_object(None if caught is None else f'{type(caught).__name__}: {caught}')
    if caught is not None:
        raise caught
    for rank, problem in enumerate(problems):
        if problem is not None:
            raise ExportError(f'process {rank} failed with {problem}')


def _uses_labels(model: nn.Module, dataset: BaseDataset) -> bool:
    return model.test_cfg['use_image_labels'] and 'image_labels' in dataset.get_data_info(0)


@contextmanager
def _naming(image_id: str) -> Iterator[None]:
    """Turn what a step or sample says to be wrong into an :class:`ExportError` that names the image."""
    try:
        yield
    except ValueError as error:
        raise ExportError(f'pseudo mask of {image_id}: {error}') from error


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into evaluation mode inside the block and restore each submodule's mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
