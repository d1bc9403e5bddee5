"""Running average of the weights that stays where it is when a step was skipped."""

from __future__ import annotations

from mmengine.hooks import EMAHook as HostEMAHook
from mmengine.runner import Runner

from mmwsss.registry import HOOKS

from .non_finite_hook import step_was_skipped


@HOOKS.register_module()
class EMAHook(HostEMAHook):
    """mmengine's hook of the same name, whose place it takes in configs of this package.

    It does not follow a step that :class:`~mmwsss.engine.hooks.NonFiniteLossHook` has skipped.
    """

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Update the average."""
        if not step_was_skipped(runner):
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
