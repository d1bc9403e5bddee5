"""Hook that keeps the second network of a model up to date."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmwsss.registry import HOOKS


@HOOKS.register_module()
class AssignmentHook(Hook):
    """Tell the model the iteration and let its assignment network follow after every optimizer step (CoSA).

    Sets ``model.iteration`` (0-based) before and calls ``model.update_assignment()`` after an iteration, ahead of the
    hooks that save checkpoints, and of validation. Iterations that only accumulate gradients do not count as steps.

    Raises:
        TypeError: before training, the model has no ``update_assignment``.
    """

    priority = 'ABOVE_NORMAL'

    def before_train(self, runner: Runner) -> None:
        """Check the model."""
        model = _unwrap(runner.model)
        if not callable(getattr(model, 'update_assignment', None)):
            raise TypeError(
                f'AssignmentHook needs a model with update_assignment(), {type(model).__name__} has none; remove the '
                'hook from custom_hooks'
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Set ``model.iteration``."""
        _unwrap(runner.model).iteration = runner.iter

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Update the assignment network if the optimizer took a step."""
        if runner.optim_wrapper.should_update():  # counted already, so it answers for the iteration just done
            _unwrap(runner.model).update_assignment()


def _unwrap(model: nn.Module) -> nn.Module:
    return model.module if is_model_wrapper(model) else model
