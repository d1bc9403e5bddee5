"""An error of one process of an export ends it on all, none waits for ever."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from export_cases import run

from mmwsss.pseudo_labels import export
from mmwsss.pseudo_labels.export_data import ExportError


def _fail(*args: Any) -> None:
    raise RuntimeError('the disk is full')


def _rank(rank: int, failing: int, name: str, folder: str, model: Any, dataset: Any) -> None:
    torch.set_num_threads(1)
    os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE='2')
    dist.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    if rank == failing:
        setattr(export, name, _fail)
    try:
        run(model, dataset, f'{folder}/out')
        text = 'no error'
    except (RuntimeError, ExportError) as error:
        text = str(error)
    Path(folder, f'rank_{rank}.txt').write_text(text)
    os._exit(0)


@pytest.mark.parametrize(('name', 'failing'), [('write_palette_png', 1), ('describe_masks', 0)])
def test_an_error_of_one_process_is_one_of_all(model, dataset, tmp_path: Path, name: str, failing: int) -> None:
    context = multiprocessing.get_context('fork').Process
    ranks = [context(target=_rank, args=(rank, failing, name, str(tmp_path), model, dataset)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    assert [process.exitcode for process in ranks] == [0, 0]
    texts = [(tmp_path / f'rank_{rank}.txt').read_text() for rank in range(2)]
    assert texts[failing] == 'the disk is full'
    assert texts[1 - failing] == f'process {failing} failed with RuntimeError: the disk is full'
    assert not (tmp_path / 'out' / 'manifest.json').exists()
