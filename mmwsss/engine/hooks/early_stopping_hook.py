"""Early stopping that a resumed run takes up where it was."""

from __future__ import annotations

from mmengine.hooks import EarlyStoppingHook as HostEarlyStoppingHook
from mmengine.runner import Runner

from mmwsss.registry import HOOKS

_STATE = 'early_stopping'  # in the message hub


@HOOKS.register_module()
class EarlyStoppingHook(HostEarlyStoppingHook):
    """mmengine's hook of the same name, which forgets its best score, and how long ago that was, in a resumed run.

    It takes its place in configs of this package; the arguments are the same. It acts before the checkpoint hook, so
    that a checkpoint that is saved after a validation knows of it.
    """

    priority = 'LOW'

    def before_train(self, runner: Runner) -> None:
        """Take over the state of the checkpoint, and stop where it says that training was over."""
        key = f'{_STATE}/{self.monitor}'
        if runner.iter and key in runner.message_hub.runtime_info:
            self.best_score, self.wait_count, stopped = runner.message_hub.get_info(key)
            runner.train_loop.stop_training = bool(stopped)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Decide, and note the outcome for the next checkpoint."""
        super().after_val_epoch(runner, metrics)
        state = [float(self.best_score), self.wait_count, int(runner.train_loop.stop_training)]
        runner.message_hub.update_info(f'{_STATE}/{self.monitor}', state)
