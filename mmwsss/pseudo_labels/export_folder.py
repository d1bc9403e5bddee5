"""The folder of an export: what is still to do in it, who works there, and which runs filled it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, get_dist_info

from mmwsss.datasets.checks import map_threads, read_mask
from mmwsss.evaluation.record import circumstances
from mmwsss.utils.files import leads_out, locked, remove_folder, remove_partial_files, sync_files, write_json

from .export_data import MANIFEST, ExportError
from .manifest import mask_path
from .stored_maps import maps_path, read_maps

MASKS, MAPS, IDENTITY, LOCK = 'masks', 'maps', 'export.json', '.lock'
_RUNS = 'runs'


@dataclass(frozen=True)
class ExportFolder:
    """An export's folder, held by the processes of one run.

    Args:
        path: holds ``masks/``, with stored maps ``maps/``, ``manifest.json`` and ``export.json``, which says what the
            masks have in common.
        left: indices of the images without a mask, or without maps, the same on every process.
        finished: every mask and the manifest were there already.
    """

    path: Path
    left: list[int]
    finished: bool

    @property
    def masks(self) -> Path:
        """Folder of the masks."""
        return self.path / MASKS

    @property
    def maps(self) -> Path:
        """Folder of the stored maps."""
        return self.path / MAPS

    def read_manifest(self) -> dict[str, Any]:
        """Manifest of a finished export."""
        return _read_json(self.path / MANIFEST)

    def end_run(self, written_by_rank: Sequence[int], seconds: float) -> list[dict[str, Any]]:
        """Complete the record of this run; returns those of all runs, the oldest first. On the first process.

        All masks and maps are brought to the disk before.
        """
        for folder in (self.masks, self.maps):
            sync_files(path for path in folder.rglob('*') if path.is_file())
        record = _read_json(self.path / IDENTITY)
        written = sum(written_by_rank)
        record[_RUNS][-1].update(
            num_written=written,
            written_by_rank=list(written_by_rank),
            seconds=round(seconds, 2),
            images_per_second=round(written / seconds, 3) if written else None,
        )
        write_json(self.path / IDENTITY, record)
        return record[_RUNS]


@contextmanager
def export_folder(
    path: str | os.PathLike, ids: Sequence[str], identity: dict[str, Any], overwrite: bool, device: Any = None
) -> Iterator[ExportFolder]:
    """Hold ``path`` for the masks of images ``ids``; the first process looks and tidies up, all get its answer.

    Args:
        identity: what the masks in the folder have to have in common, as JSON has it; its entry 'maps' says whether
            maps are stored beside them.
        overwrite: remove what lies there.
        device: where the network runs, for the record of the run.

    Raises:
        ExportError: another process exports into the folder, it holds masks of another identity, it cannot be used, or
            an id leads out of it; on every process.
    """
    folder, caught = Path(path), None
    outcome: list[Any] = [None, None, None]
    with ExitStack() as stack:
        if get_dist_info()[0] == 0:
            try:
                _check_inside(ids)
                stack.enter_context(_held(folder))
                outcome = [*_prepare(folder, ids, identity, overwrite, device), None]
            except Exception as error:  # whatever it is, the others wait for an answer
                caught, told = error, isinstance(error, ExportError | OSError)
                text = str(error) if told else f'{folder}: {type(error).__name__}: {error}'
                outcome = [None, None, (error.problem, error.overwrite) if isinstance(error, ExportError) else (text,)]
        broadcast_object_list(outcome)
        left, finished, problem = outcome
        if problem is not None:
            raise ExportError(*problem) from caught
        yield ExportFolder(folder, left, finished)


def _check_inside(ids: Sequence[str]) -> None:
    """Raise ExportError where an id, which names a file, leads out of the folder."""
    for name in ids:
        if leads_out(name):
            raise ExportError(f'the image id {name!r} leads out of the folder of the export; rename it in the list')


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / LOCK))
        except BlockingIOError as error:
            raise ExportError(
                f'another process is exporting into {folder}, {error.strerror}; wait for its end or choose another '
                'folder'
            ) from error
        yield


def _prepare(
    folder: Path, ids: Sequence[str], identity: dict[str, Any], overwrite: bool, device: Any
) -> tuple[list[int], bool]:
    """Indices of the images to do, and whether the export is finished; otherwise the record of a run is begun."""
    masks, maps = folder / MASKS, folder / MAPS if identity.get('maps') else None
    if overwrite:
        # The old record goes last: an interrupted removal must not look like a part of the new export.
        (folder / MANIFEST).unlink(missing_ok=True)
        remove_folder(masks)
        remove_folder(folder / MAPS)
        (folder / IDENTITY).unlink(missing_ok=True)
    runs = _earlier_runs(folder, identity)
    remove_partial_files(folder)
    masks.mkdir(exist_ok=True)
    if maps is not None:
        maps.mkdir(exist_ok=True)
    whole = map_threads(partial(_is_whole, masks, maps), ids, f'looking for masks in {masks}')
    left = [index for index, done in enumerate(whole) if not done]
    if not left and (folder / MANIFEST).exists():
        return left, True
    if runs and runs[-1]['num_written'] is None:  # it was killed
        runs[-1]['num_written'] = max(runs[-1]['num_left'] - len(left), 0)
    found = circumstances(device)
    run = {key: found[key] for key in ('date', 'device', 'git')}
    run |= {'num_processes': get_dist_info()[1], 'num_left': len(left), 'num_written': None, 'seconds': None}
    write_json(folder / IDENTITY, {**identity, _RUNS: [*runs, run]})
    (folder / MANIFEST).unlink(missing_ok=True)
    return left, False


def _earlier_runs(folder: Path, identity: dict[str, Any]) -> list[dict[str, Any]]:
    """Records of the runs so far; raises unless ``folder`` is new or belongs to the same export."""
    try:
        found = _read_json(folder / IDENTITY)
    except FileNotFoundError:
        if any((folder / MASKS).rglob('*.png')):
            raise ExportError(
                f'{folder / MASKS} holds masks without {IDENTITY}, nobody can tell from where',
                'choose another folder or remove them with --overwrite (overwrite=True)',
            ) from None
        return []
    different = [key for key in identity if found.get(key) != identity[key]]
    if different:
        raise ExportError(
            f'{folder} holds an export that differs in: {", ".join(different)}',
            'choose another folder or replace it with --overwrite (overwrite=True)',
        )
    return found.get(_RUNS, [])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ExportError(f'{path} is no JSON ({error})', 'remove the export with --overwrite') from error
    if not isinstance(content, dict):
        raise ExportError(f'{path} is no record of an export', 'remove the export with --overwrite')
    return content


def _is_whole(masks: Path, maps: Path | None, image_id: str) -> bool:
    """Whether all files are there and can be read; one that a failing disk damaged is made again."""
    path = mask_path(masks, image_id)
    if not path.exists():
        return False
    try:
        read_mask(str(path))
        if maps is not None:
            read_maps(maps_path(maps, image_id))
    except (OSError, ValueError, SyntaxError, EOFError):
        return False
    return True
