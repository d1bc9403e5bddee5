"""Endless sampling that can start at any position."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmwsss.registry import DATA_SAMPLERS
from mmwsss.utils.seeding import SampleDraw, mix_seed


@DATA_SAMPLERS.register_module()
class ResumableInfiniteSampler(Sampler):
    """Endless permutations of a dataset in which every position is a function of (seed, position) alone.

    Rank r of n takes the positions r, r + n, r + 2n, ... It yields :class:`~mmwsss.utils.seeding.SampleDraw`, so that
    the weak datasets seed each sample's augmentation from its position. Skipping what was trained costs nothing, and
    the number of loader workers changes nothing.

    Args:
        shuffle: permute each pass; False counts up.
        seed: the run's seed by default.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None) -> None:
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.start = 0

    def __iter__(self) -> Iterator[SampleDraw]:
        position = self.start * self.world_size + self.rank
        epoch, order = None, None
        while True:
            if epoch != position // self.size:
                epoch = position // self.size
                order = self._order(epoch)
            yield SampleDraw(order[position % self.size], (self.seed, position))
            position += self.world_size

    def __len__(self) -> int:
        return self.size

    def start_at(self, num_samples: int) -> None:
        """Let the next iteration begin after ``num_samples`` samples of this rank."""
        self.start = num_samples

    def set_epoch(self, epoch: int) -> None:
        """Nothing to do: passes are counted by position."""

    def _order(self, epoch: int) -> list[int]:
        if not self.shuffle:
            return list(range(self.size))
        generator = torch.Generator()
        generator.manual_seed(int(mix_seed(self.seed, epoch, words=1)[0]))
        return torch.randperm(self.size, generator=generator).tolist()
