"""Hook that ends a training in time when the cluster takes its machine away."""

from __future__ import annotations

import torch
import torch.distributed as dist
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmwsss.engine.preemption import Preempted, received_signal
from mmwsss.registry import HOOKS

from .checkpoint_hook import CheckpointHook, is_step_unfinished
from .cyclic_rounds import save_checkpoint


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Save a checkpoint and raise :class:`~mmwsss.engine.preemption.Preempted` after SIGTERM or SIGUSR1.

    The iteration that runs is finished, and with accumulated gradients the step of the optimizer; the last iteration of
    a training ends as ever. Signals are noted where the program watches for them, see
    :func:`~mmwsss.engine.preemption.watched_signals`, as ``tools/train.py`` does.

    Processes of a distributed run agree on the iteration by one number that they exchange on the host, over gloo,
    every ``interval`` iterations: no step waits for the device, and a signal to one of them is one to all. They stop
    after the exchange, as soon as the step of the optimizer is finished.

    Args:
        interval: iterations between two exchanges; a single process looks after every one.
    """

    priority = 'LOWEST'  # after the checkpoint, and the moving averages that it saves

    def __init__(self, interval: int = 10) -> None:
        if interval < 1:
            raise ValueError(f'interval of PreemptionHook has to be at least 1, got {interval}')
        self.interval = interval
        self._group: dist.ProcessGroup | None = None
        self._received: str | None = None

    def before_train(self, runner: Runner) -> None:
        """Join the group of the exchange."""
        self._received = None
        if get_dist_info()[1] > 1 and self._group is None:
            self._group = dist.group.WORLD if dist.get_backend() == 'gloo' else dist.new_group(backend='gloo')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Look for a signal."""
        if self._received is None and (self._group is None or self.every_n_train_iters(runner, self.interval)):
            self._received = self._signal()
        if self._received is None or self.is_last_train_iter(runner) or is_step_unfinished(runner):
            return
        iteration = runner.iter + 1
        _save(runner, iteration)
        if self._group is not None:
            dist.barrier(self._group)  # torchrun ends all processes soon after the first has left
        raise Preempted(
            f'{self._received}: training has stopped after iteration {iteration} of {runner.max_iters}, which is '
            'saved; start the same command with --resume to go on'
        )

    def _signal(self) -> str | None:
        """Name of a signal that any process has received."""
        name = received_signal()
        if self._group is None:
            return name
        found = torch.tensor(int(name is not None))
        dist.all_reduce(found, group=self._group)
        return (name or 'signal to another process') if found else None


def _save(runner: Runner, iteration: int) -> None:
    hook = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook) and not hook.by_epoch), None)
    if hook is None:
        save_checkpoint(runner, iteration)
    else:
        hook.save_now(runner)
