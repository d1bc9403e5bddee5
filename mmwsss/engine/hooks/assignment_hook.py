"""Hook that keeps the second network of a model up to date."""

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
class AssignmentHook(Hook):
    """Tell the model the iteration and let its assignment network follow after every optimizer step (CoSA).

    Sets ``model.iteration`` (0-based) before and calls ``model.update_assignment()`` after an iteration, ahead of the
    hooks that save checkpoints, and of validation. Iterations that only accumulate gradients do not count as steps.

    Training starts with a warning where another length was set for it than its schedule was made for: a
    :class:`~mmwsss.engine.WarmupPolyLR` of other ``max_iters``, or ``warmup_iters`` of the model above them. (A warm-up
    of exactly the whole training is meant so: both classifiers alone.)

    Raises:
        TypeError: before training, the model has no ``update_assignment``.
    """

    priority = 'ABOVE_NORMAL'

    def before_train(self, runner: Runner) -> None:
        """Check the model and the length of the schedules."""
        model = _unwrap(runner.model)
        if not callable(getattr(model, 'update_assignment', None)):
            raise TypeError(
                f'AssignmentHook needs a model with update_assignment(), {type(model).__name__} has none; remove the '
                'hook from custom_hooks'
            )
        for warning in _other_lengths(runner, model):
            print_log(warning, logger='current', level=logging.WARNING)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Set ``model.iteration``."""
        _unwrap(runner.model).iteration = runner.iter

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Update the assignment network if the optimizer took a step."""
        if runner.optim_wrapper.should_update():  # counted already, so it answers for the iteration just done
            _unwrap(runner.model).update_assignment()


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


def _unwrap(model: nn.Module) -> nn.Module:
    return model.module if is_model_wrapper(model) else model
