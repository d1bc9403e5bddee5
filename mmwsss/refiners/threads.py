"""Compiled kernels in several threads of one pool."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch


def share(kernel: Callable, count: int, *args: Any, small: int = 1) -> None:
    """Run ``kernel(*args, first, last)`` on ranges that make up 0..count, one in each thread.

    Args:
        small: number of items up to which one thread is enough.
    """
    threads = min(torch.get_num_threads(), count) if count > small else 1
    bounds = [count * i // threads for i in range(threads + 1)]
    _run([(kernel, *args, *pair) for pair in pairwise(bounds)])


def each(kernel: Callable, parts: int, *args: Any) -> list[Any]:
    """Results of ``kernel(*args, parts, part)`` for every part, each in a thread."""
    return _run([(kernel, *args, parts, part) for part in range(parts)])


def _run(calls: list[tuple]) -> list[Any]:
    futures = [_pool().submit(*call) for call in calls[1:]]
    function, *args = calls[0]
    first = function(*args)
    return [first, *(future.result() for future in futures)]


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    # Tasks never submit tasks, so any number of callers can share the pool without waiting for each other for ever.
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix='refiner')


# Threads do not survive a fork, a worker of a data loader makes its own.
if hasattr(os, 'register_at_fork'):  # not on Windows, which does not fork either
    os.register_at_fork(after_in_child=_pool.cache_clear)
