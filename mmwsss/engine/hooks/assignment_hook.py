"""Hook that keeps the second network of a model up to date."""

from __future__ import annotations

from mmengine.runner import Runner

from mmwsss.registry import HOOKS

from .iteration_hook import IterationHook, unwrap
from .non_finite_hook import step_was_skipped


@HOOKS.register_module()
class AssignmentHook(IterationHook):
    """Tell the model the iteration and let its assignment network follow after every optimizer step (CoSA).

    In addition to what :class:`IterationHook` does, it calls ``model.update_assignment()`` after an iteration, ahead of
    the hooks that save checkpoints, and of validation. Iterations that only accumulate gradients do not count as steps,
    nor do steps that :class:`NonFiniteLossHook` has skipped.

    Raises:
        TypeError: before training, the model has no ``update_assignment``.
    """

    def before_train(self, runner: Runner) -> None:
        """Check the model and the length of the schedules."""
        model = unwrap(runner.model)
        if not callable(getattr(model, 'update_assignment', None)):
            raise TypeError(
                f'AssignmentHook needs a model with update_assignment(), {type(model).__name__} has none; put '
                'IterationHook in its place in custom_hooks'
            )
        super().before_train(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Update the assignment network if the optimizer took a step."""
        # The wrapper has counted already, so it answers for the iteration just done.
        if runner.optim_wrapper.should_update() and not step_was_skipped(runner):
            unwrap(runner.model).update_assignment()
