"""Hook that tells a model how far its training has come."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmwsss.engine.schedulers import WarmupPolyLR
from mmwsss.registry import HOOKS


@HOOKS.register_module()
class IterationHook(Hook):
    """Set ``model.iteration`` (0-based) before every iteration, for losses that start after a warm-up.

    Training starts with a warning where another length was set for it than its schedule was made for: a
    :class:`~mmwsss.engine.WarmupPolyLR` of other ``max_iters``, or ``warmup_iters`` of the model above them. (A warm-up
    of exactly the whole training is meant so: the classifiers alone.)
    """

    priority = 'ABOVE_NORMAL'

    def before_train(self, runner: Runner) -> None:
        """Check the length of the schedules."""
        for warning in _other_lengths(runner, unwrap(runner.model)):
            print_log(warning, logger='current', level=logging.WARNING)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Set ``model.iteration``."""
        unwrap(runner.model).iteration = runner.iter


def _other_lengths(runner: Runner, model: nn.Module) -> Iterator[str]:
    length = runner.max_iters
    schedulers = runner.param_schedulers
    for index, scheduler in enumerate(schedulers if isinstance(schedulers, list) else ()):
        if isinstance(scheduler, WarmupPolyLR) and scheduler.max_iters != length:
            yield (
                f'the learning rate is scheduled for {scheduler.max_iters} iterations, training takes {length}; set '
                f'param_scheduler.{index}.max_iters={length}'
            )
    warmup = getattr(model, 'warmup_iters', 0)
    if warmup > length:
        yield (
            f'only the classifiers will be trained: the warm-up of the model takes {warmup} iterations, training '
            f'{length}; set model.warmup_iters'
        )


def unwrap(model: nn.Module) -> nn.Module:
    """The model itself, without the wrapper of distributed training."""
    return model.module if is_model_wrapper(model) else model
