"""Processes of a distributed run on a CPU, as forks of the test."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

TIMEOUT = 300  # seconds, for all processes together


def start_ranks(function: Callable[..., Any], count: int, folder: str | Path, *args: Any) -> list[Any]:
    """Call ``function(rank, *args)`` in each of ``count`` processes of one gloo group and return their results by rank.

    The results are saved in ``folder``, which must not have been used before, and read with ``weights_only``.

    Raises:
        AssertionError: a process has failed; its traceback is on stderr.
    """
    gc.collect()
    gc.freeze()  # mmengine collects garbage whenever it builds a data set, here among all that the test has imported
    context = multiprocessing.get_context('fork')
    ranks = [context.Process(target=_rank, args=(function, rank, count, str(folder), args)) for rank in range(count)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(TIMEOUT)
        if process.exitcode is None:
            process.kill()
            process.join()
    assert [process.exitcode for process in ranks] == [0] * count
    return [torch.load(Path(folder) / f'rank_{rank}.pth', weights_only=True) for rank in range(count)]


def _rank(function: Callable[..., Any], rank: int, count: int, folder: str, args: tuple) -> None:
    torch.set_num_threads(1)  # a fork's thread pool is made anew: here, not by the first of many threads
    os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE=str(count))
    dist.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=count)
    torch.save(function(rank, *args), f'{folder}/rank_{rank}.pth')
    dist.barrier()
    os._exit(0)  # without the teardown, in which threads of the group may abort
