"""Randomness of a training step as a function of the seed, the iteration and the rank."""

from __future__ import annotations

import random

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmwsss.registry import HOOKS
from mmwsss.utils.seeding import mix_seed


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Reseed the generators of torch, numpy and Python before every training iteration.

    Dropout and whatever else is drawn in a step then depend on (seed, iteration, rank) only: a resumed run draws what
    the uninterrupted one would have drawn, without generator states in the checkpoint, and whatever ran in between
    (validation, logging) changes nothing. Samples are seeded by their position, see
    :class:`~mmwsss.datasets.samplers.ResumableInfiniteSampler`.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Seed the CPU and accelerator generators of this process."""
        words = mix_seed(runner.seed, runner.iter, get_rank(), words=2)
        high, low = map(int, words)
        torch.manual_seed(high << 31 ^ low)
        np.random.seed(words)
        random.seed(words.tobytes())
