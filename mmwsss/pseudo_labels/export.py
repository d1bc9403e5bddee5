"""Pseudo masks of a whole dataset as PNG files that any segmentation network can be trained on."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.dist import barrier, broadcast_object_list, get_dist_info
from mmseg.structures import SegDataSample
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from mmwsss.datasets.checks import map_threads, read_mask
from mmwsss.evaluation.record import circumstances, protocol_from_scores
from mmwsss.utils.files import remove_partial_files, write_json, write_palette_png
from mmwsss.utils.seeding import seeded

from .export_data import ExportError, image_ids
from .manifest import ExportSource, describe_masks, export_identity, mask_palette, mask_path

MASKS, IDENTITY, MANIFEST = 'masks', 'export.json', 'manifest.json'
_IGNORED = 255  # in the mask of a LabelState, whatever the dataset uses
_PENDING_PER_WORKER = 4


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
) -> ExportResult:
    """Write ``masks/<img_id>.png`` for every image of ``dataset`` and ``manifest.json`` below ``out_dir``.

    The network runs on this thread, :meth:`WeakSegmentor.pseudo_label` and the writing in threads beside it. Every file
    appears whole or not at all; images whose mask is there are skipped, so that an interrupted export goes on when it
    is called again. Each process of a distributed run takes its share of what is left. Module modes and the states of
    the random generators are as before afterwards.

    Args:
        model: weak segmentor on its device; with ``pseudo_labeler=None`` masks are decided as its method does it.
        dataset: images through a test pipeline; image labels are used where it has them and the model's
            ``test_cfg.use_image_labels`` allows it.
        batch_size, num_workers: of the loading of images.
        workers: threads for the second half; 0 does everything in turn.
        overwrite: remove what lies in ``out_dir`` from another export, or from the same.
        progress: show a bar on the first process.

    Raises:
        ExportError: ``out_dir`` holds masks of another config, checkpoint, list of images or chain of steps; or the
            classes do not fit in 8 bits; or the model makes no localization maps.
    """
    if not hasattr(model, 'network_maps'):
        raise ExportError(f'{type(model).__name__} makes no localization maps; export from a weak segmentor')
    folder, palette = Path(out_dir), mask_palette(dataset.metainfo, dataset.ignore_index)
    ids = image_ids(dataset)
    use_labels = model.test_cfg['use_image_labels'] and 'image_labels' in dataset.get_data_info(0)
    left = _plan(folder, ids, export_identity(source, ids, use_labels), overwrite)
    rank, world_size = get_dist_info()
    start = time.perf_counter()
    writer = _MaskWriter(model, folder / MASKS, ids, palette, dataset.ignore_index)
    loader = DataLoader(
        Subset(dataset, left[rank::world_size]),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=pseudo_collate,
        generator=torch.Generator(),  # the global one would be drawn from
    )
    with _evaluating(model), seeded(0), _bar(len(left[rank::world_size]), progress and rank == 0) as advance:
        _run(model, loader, left[rank::world_size], writer, workers, use_labels, advance)
    barrier()
    seconds = time.perf_counter() - start
    manifest = None
    if rank == 0:
        run = {
            'num_images': len(ids),
            'num_written': len(left),
            'num_processes': world_size,
            'seconds': round(seconds, 2),
            'images_per_second': round(len(left) / seconds, 3) if left else None,
        }
        described = describe_masks(dataset, folder / MASKS, use_labels)
        manifest = {
            **source.record(),
            'test_cfg': dict(model.test_cfg),
            'used_image_labels': use_labels,
            'classes': list(dataset.metainfo['classes']),
            'palette': palette[: len(dataset.metainfo['classes'])],
            'ignore_index': dataset.ignore_index,
            **run,
            **circumstances(),
            'protocol': protocol_from_scores(described['scores']),
            **described,
        }
        write_json(folder / MANIFEST, manifest)
    barrier()
    return ExportResult(folder / MASKS, len(left), len(ids) - len(left), seconds, manifest)


class _MaskWriter:
    """Second half of the work on one image, for a thread of its own."""

    def __init__(
        self, model: nn.Module, folder: Path, ids: Sequence[str], palette: list[list[int]], ignore_index: int
    ) -> None:
        self.model = model
        self.folder = folder
        self.ids = ids
        self.palette = palette
        self.ignore_index = ignore_index

    @torch.no_grad()  # the mode belongs to a thread, so the caller's does not reach here
    def __call__(self, index: int, maps: Tensor, scores: Tensor, sample: SegDataSample, labels: Tensor | None) -> None:
        with torch.cuda.device_of(maps):  # does nothing on a CPU
            state = self.model.pseudo_label(maps, scores, sample, labels)
        mask = state.mask[0].to('cpu').numpy()
        mask = np.where(mask == _IGNORED, self.ignore_index, mask).astype(np.uint8)
        write_palette_png(mask_path(self.folder, self.ids[index]), mask, self.palette)


@torch.no_grad()
def _run(
    model: nn.Module,
    loader: DataLoader,
    indices: Sequence[int],
    writer: _MaskWriter,
    workers: int,
    use_labels: bool,
    advance: Callable[[], None],
) -> None:
    """Network on this thread, ``writer`` in ``workers`` threads with a bounded number of images between them."""
    items = _network_items(model, loader, indices, use_labels)
    if workers == 0:
        for item in items:
            writer(*item)
            advance()
        return
    pending: deque[Future] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix='pseudo_label')
    try:
        for item in items:
            while len(pending) >= _PENDING_PER_WORKER * workers or (pending and pending[0].done()):
                pending.popleft().result()
                advance()
            pending.append(pool.submit(writer, *item))
        while pending:
            pending.popleft().result()
            advance()
    finally:
        pool.shutdown(cancel_futures=True)


def _network_items(
    model: nn.Module, loader: DataLoader, indices: Sequence[int], use_labels: bool
) -> Iterator[tuple[int, Tensor, Tensor, SegDataSample, Tensor | None]]:
    """Index, maps (1, C, h, w), scores (1, K), sample and labels (1, K) of one image after the other."""
    position = iter(indices)
    for data in loader:
        batch = model.data_preprocessor(data, False)
        inputs = batch['inputs']
        maps, scores = model.network_maps(inputs['view_1'] if isinstance(inputs, dict) else inputs)
        for i, sample in enumerate(batch['data_samples']):
            labels = sample.image_labels[None].to(maps) if use_labels else None
            yield next(position), maps[i : i + 1], scores[i : i + 1], sample, labels


def _plan(folder: Path, ids: Sequence[str], identity: dict[str, Any], overwrite: bool) -> list[int]:
    """Indices of the images still to do, the same on every process; the first one looks and tidies up."""
    outcome: list[Any] = [None, None]
    if get_dist_info()[0] == 0:
        try:
            outcome = [_prepare(folder, ids, identity, overwrite), None]
        except (ExportError, OSError) as error:  # the others wait for an answer
            outcome = [None, str(error)]
    broadcast_object_list(outcome)
    left, problem = outcome
    if problem is not None:
        raise ExportError(problem)
    return left


def _prepare(folder: Path, ids: Sequence[str], identity: dict[str, Any], overwrite: bool) -> list[int]:
    masks = folder / MASKS
    if overwrite:
        # The old record goes last: an interrupted removal must not look like a part of the new export.
        (folder / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(masks, ignore_errors=True)
        (folder / IDENTITY).unlink(missing_ok=True)
    _check_identity(folder, identity)
    write_json(folder / IDENTITY, identity)
    remove_partial_files(folder)
    masks.mkdir(exist_ok=True)
    whole = map_threads(partial(_is_whole, masks), ids, f'looking for masks in {masks}')
    left = [index for index, done in enumerate(whole) if not done]
    if left:
        (folder / MANIFEST).unlink(missing_ok=True)
    return left


def _check_identity(folder: Path, identity: dict[str, Any]) -> None:
    """Raise unless ``folder`` is new or belongs to the same export."""
    try:
        found = json.loads((folder / IDENTITY).read_text(encoding='utf-8'))
    except FileNotFoundError:
        if any((folder / MASKS).rglob('*.png')):
            raise ExportError(
                f'{folder / MASKS} holds masks without {IDENTITY}, nobody can tell from where; choose another folder '
                'or remove them with --overwrite (overwrite=True)'
            ) from None
        return
    except ValueError as error:
        raise ExportError(f'{folder / IDENTITY} is no JSON ({error}); remove the export with --overwrite') from error
    different = [key for key in identity if found.get(key) != identity[key]]
    if different:
        raise ExportError(
            f'{folder} holds an export that differs in: {", ".join(different)}; choose another folder or replace it '
            'with --overwrite (overwrite=True)'
        )


def _is_whole(masks: Path, image_id: str) -> bool:
    """Whether the mask is there and can be read; one that a failing disk damaged is made again."""
    path = mask_path(masks, image_id)
    if not path.exists():
        return False
    try:
        read_mask(str(path))
    except (OSError, ValueError, SyntaxError, EOFError):
        return False
    return True


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


@contextmanager
def _bar(total: int, shown: bool) -> Iterator[Callable[[], None]]:
    """Function that counts one image on a progress bar with the time that is left."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn('left'), TimeRemainingColumn())
    with Progress(TextColumn('pseudo masks'), *columns, disable=not shown) as progress:
        task = progress.add_task('', total=total)
        yield lambda: progress.advance(task)
