"""Which images of a dataset were found to be corrupt, by whatever process read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch


class CorruptFlags:
    """One flag for each of ``size`` images, in memory that the processes that load data share."""

    def __init__(self, size: int) -> None:
        self._flags = torch.zeros(size, dtype=torch.bool).share_memory_()

    def add(self, index: int) -> bool:
        """Flag an image; whether it is the first time."""
        is_new = not self._flags[index]
        self._flags[index] = True
        return is_new

    def __iter__(self) -> Iterator[int]:
        """Indices of the flagged images."""
        return iter(self._flags.nonzero()[:, 0].tolist())


def corrupt_images(dataset: Any) -> list[str]:
    """Files of the images that ``dataset``, or one that it wraps, had to replace by others."""
    if getattr(dataset, 'skip_corrupt', False):
        return dataset.corrupt_images
    inner = [*getattr(dataset, 'datasets', ()), getattr(dataset, 'dataset', None)]
    return [path for part in inner if part is not None for path in corrupt_images(part)]
