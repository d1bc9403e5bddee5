"""Losses for the log without a wait for the device in every step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner
from torch import Tensor

from mmwsss.registry import HOOKS


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """mmengine's hook that leaves the losses on the device until somebody reads them.

    The parent asks the device for every value of every step, so that the host cannot prepare the next step while the
    device still works. Here the values of several steps are read at once, before the log or a checkpoint needs
    them, and at the end; log and checkpoints have the same numbers. It takes the parent's place as
    ``default_hooks=dict(runtime_info=dict(type='DeferredRuntimeInfoHook'))``.

    Args:
        interval: iterations after which values are read at the latest.
    """

    def __init__(self, interval: int = 50) -> None:
        if interval < 1:
            raise ValueError(f'interval of DeferredRuntimeInfoHook has to be at least 1, got {interval}')
        self.interval = self._every = interval
        self._waiting: list[tuple[tuple[str, ...], Tensor]] = []

    def before_train(self, runner: Runner) -> None:
        """Find out after how many iterations the log reads."""
        super().before_train(runner)
        self._waiting.clear()
        loggers = (hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook))
        self._every = math.gcd(self.interval, *loggers)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Keep the ``outputs`` of a step; bring all that were kept to the message hub where the log reads them."""
        if outputs:
            self._waiting.append((tuple(outputs), _stacked(outputs.values())))
        is_last = self.is_last_train_iter(runner) or self.end_of_epoch(runner.train_dataloader, batch_idx)
        if is_last or self.every_n_inner_iters(batch_idx, self._every):
            self._read(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the values that were kept into ``checkpoint``, which has a copy of the message hub."""
        if self._waiting:
            self._read(runner)
            checkpoint['message_hub'] = runner.message_hub.state_dict()

    def after_train(self, runner: Runner) -> None:
        """Read what a run that was stopped early has left."""
        self._read(runner)
        super().after_train(runner)

    def _read(self, runner: Runner) -> None:
        if not self._waiting:
            return
        numbers = iter(torch.cat([values for _, values in self._waiting]).tolist())
        for names, _ in self._waiting:
            for name in names:
                runner.message_hub.update_scalar(f'train/{name}', next(numbers))
        self._waiting.clear()


def _stacked(values: Iterable[Any]) -> Tensor:
    """Numbers and tensors of one number as a tensor (n,) float32, on the device where there is one among them."""
    numbers = [torch.as_tensor(value).detach().float().reshape(()) for value in values]
    device = next((number.device for number in numbers if number.device.type != 'cpu'), None)
    return torch.stack([number if device is None else number.to(device, non_blocking=True) for number in numbers])
