"""Randomness of a training step as a function of the seed, the iteration and the rank."""

from __future__ import annotations

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmwsss.registry import HOOKS
from mmwsss.utils.seeding import mix_seed


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Reseed torch's generators before every training iteration.

    Dropout then depends on (seed, iteration, rank) only: a resumed run draws what the uninterrupted one would have
    drawn, without generator states in the checkpoint, and whatever ran in between (validation, logging) changes
    nothing.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Seed the CPU and accelerator generators of this process."""
        high, low = (int(word) for word in mix_seed(runner.seed, runner.iter, get_rank(), words=2))
        torch.manual_seed(high << 31 ^ low)
