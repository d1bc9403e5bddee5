"""What happens when a loss is no number any more."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmwsss.registry import HOOKS

from .cyclic_rounds import saves_checkpoint
from .iteration_hook import unwrap

ACTIONS = ('raise', 'skip')
SKIPPED, IN_A_ROW = 'skipped_steps', 'skipped_steps_in_a_row'  # in the message hub, and so in checkpoints
_MAX_NAMED = 8


class NonFiniteLoss(RuntimeError):
    """A training has stopped at a loss that is nan or infinite; the message names loss, iteration and images."""


class Seen(NamedTuple):
    """Losses of one iteration.

    Args:
        iteration: counted from 1.
        names: of the losses.
        values: (n + 1,) float32 on the CPU: the losses, then 1 where those of all processes are finite, else 0.
        ready: event after which ``values`` have come from the device; None where they are there.
        batch: what the data loader gave.
    """

    iteration: int
    names: tuple[str, ...]
    values: Tensor
    ready: torch.cuda.Event | None
    batch: Any

    @property
    def is_finite(self) -> bool:
        """Whether the losses of all processes are finite; waits for the device where they are not here yet."""
        if self.ready is not None:
            self.ready.synchronize()
        return bool(self.values[-1])

    def fault(self) -> str | None:
        """What is wrong with the losses of this process, None if nothing is."""
        wrong = [f'{name} is {value}' for name, value in zip(self.names, self.values.tolist()) if value - value != 0]
        if not wrong:
            return None
        rank = f' on rank {get_rank()}' if get_world_size() > 1 else ''
        return f'{", ".join(wrong)} in iteration {self.iteration}{rank}, of the images {image_names(self.batch)}'


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop the training at a loss that is nan or infinite, or skip the step.

    All processes of a distributed run do the same, as they exchange one number in every iteration.

    With 'raise' a run on a CPU stops before the gradients are computed: weights are those of the iteration before. On a
    GPU the losses are read one iteration later, so that no step waits for the device, but always before a checkpoint is
    saved.

    With 'skip' weights, state of the optimizer, statistics and queues (all buffers of the model), running averages
    (:class:`~mmwsss.engine.hooks.EMAHook`) and the network that
    :class:`~mmwsss.engine.hooks.AssignmentHook` updates stay as before the step; schedules go on. Gradients that are
    not finite are skipped as well. Every step waits for the device, and the buffers are copied in every step.
    With accumulated gradients a step is all of its iterations.

    Args:
        non_finite: 'raise' or 'skip'.
        max_in_a_row: more skipped steps than that, one after the other, stop the training.

    Raises:
        ValueError: unknown ``non_finite``, or negative ``max_in_a_row``.
        TypeError: before training, several optimizers are to be skipped.
        NonFiniteLoss: in training.
    """

    priority = 'HIGH'  # before averages follow the weights, and before checkpoints

    def __init__(self, non_finite: str = 'raise', max_in_a_row: int = 10) -> None:
        if non_finite not in ACTIONS:
            raise ValueError(f'non_finite of NonFiniteLossHook has to be one of {ACTIONS}, got {non_finite!r}')
        if max_in_a_row < 0:
            raise ValueError(f'max_in_a_row of NonFiniteLossHook must not be negative, got {max_in_a_row}')
        self.skips = non_finite == 'skip'
        self.max_in_a_row = max_in_a_row
        self.skipped = False  # the step of the iteration that has just ended
        self._waiting: deque[Seen] = deque()
        self._handles: list[Any] = []
        self._now: tuple[int, Any] = (0, None)
        self._before: list[tuple[Tensor, Tensor]] = []

    def before_train(self, runner: Runner) -> None:
        """Watch the losses, and where steps may be skipped the optimizer."""
        self._waiting.clear()
        self._before.clear()
        self._handles.append(unwrap(runner.model).register_forward_hook(self._see))
        if not self.skips:
            return
        if not isinstance(runner.optim_wrapper, OptimWrapper):
            raise TypeError("NonFiniteLossHook skips steps of one optimizer only; set non_finite='raise'")
        self._handles.append(runner.optim_wrapper.optimizer.register_step_pre_hook(self._before_step))
        if runner.iter == 0:
            self._note(runner, 0, 0)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Remember what the losses will be of, and what a skipped step has to restore."""
        self._now = runner.iter + 1, data_batch
        self.skipped = False
        if self.skips and not self._before:
            self._before = [(buffer, buffer.clone()) for buffer in unwrap(runner.model).buffers()]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Stop at the losses of the iteration before, or end a step that was skipped."""
        if not self.skips:
            saved_now = saves_checkpoint(runner) or self.is_last_train_iter(runner)
            self._examine(keep=0 if saved_now else 1)
        elif runner.optim_wrapper.should_update():  # counted already, so it answers for the iteration just done
            self._end_step(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Let no checkpoint be saved after losses that are not finite; of several processes the first saves alone."""
        if not self.skips:
            self._examine(keep=0, together=False)

    def after_train(self, runner: Runner) -> None:
        """Say how many steps were skipped."""
        while self._handles:
            self._handles.pop().remove()
        count = runner.message_hub.runtime_info.get(SKIPPED, 0)
        if self.skips and count:
            print_log(f'{count} steps were skipped, as losses or gradients were not finite', 'current', logging.WARNING)

    def _see(self, model: nn.Module, args: Any, losses: Any) -> None:
        if not model.training or not isinstance(losses, Mapping):
            return
        named = {name: value for name, value in losses.items() if 'loss' in name}
        if not named:
            return
        values = torch.stack([_mean(value) for value in named.values()])
        finite = values.isfinite().all().float()[None]
        if get_world_size() > 1:
            dist.all_reduce(finite, dist.ReduceOp.MIN)
        values, ready = _to_host(torch.cat((values, finite)))
        iteration, batch = self._now
        self._waiting.append(Seen(iteration, tuple(named), values, ready, batch))
        if not self.skips and ready is None:
            self._examine(keep=0)

    def _examine(self, keep: int, together: bool = True) -> None:
        """Stop unless all but the ``keep`` newest losses are finite."""
        while len(self._waiting) > keep:
            seen = self._waiting.popleft()
            if not seen.is_finite:
                raise NonFiniteLoss(
                    f'{_faults([seen], together)}; the training has stopped, and nothing was saved since: look at '
                    "these images, lower the learning rate, or set default_hooks.non_finite.non_finite='skip'"
                )

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        weights = [weight for group in optimizer.param_groups for weight in group['params']]
        finite = [weight.grad.isfinite().all() for weight in weights if weight.grad is not None]
        if not (all(seen.is_finite for seen in self._waiting) and (not finite or torch.stack(finite).all())):
            # Weights without a gradient keep their values and their state, whatever the optimizer.
            optimizer.zero_grad(set_to_none=True)
            self.skipped = True

    def _end_step(self, runner: Runner) -> None:
        seen = list(self._waiting)
        self._waiting.clear()
        before, self._before = self._before, []
        if not all(entry.is_finite for entry in seen):
            self.skipped = True  # also where a gradient scaler kept the optimizer from being asked
        hub = runner.message_hub.runtime_info
        if not self.skipped:
            if hub.get(IN_A_ROW):
                self._note(runner, hub.get(SKIPPED, 0), 0)
            return
        for buffer, value in before:
            buffer.copy_(value)
        in_a_row = hub.get(IN_A_ROW, 0) + 1
        self._note(runner, hub.get(SKIPPED, 0) + 1, in_a_row)
        faults = _faults(seen)
        print_log(f'step skipped: {faults}', 'current', logging.WARNING)
        if in_a_row > self.max_in_a_row:
            raise NonFiniteLoss(
                f'{in_a_row} steps in a row were skipped, the last as {faults}; the training has stopped: lower the '
                'learning rate and start from an older checkpoint'
            )

    @staticmethod
    def _note(runner: Runner, count: int, in_a_row: int) -> None:
        runner.message_hub.update_info(SKIPPED, count)
        runner.message_hub.update_info(IN_A_ROW, in_a_row)


def step_was_skipped(runner: Runner) -> bool:
    """Whether a :class:`NonFiniteLossHook` has skipped the step of the iteration that has just ended."""
    return any(isinstance(hook, NonFiniteLossHook) and hook.skipped for hook in runner.hooks)


def image_names(batch: Any) -> str:
    """Ids of the images of a batch, or their files, for messages."""
    samples = batch.get('data_samples') if isinstance(batch, Mapping) else None
    names = [*dict.fromkeys(_names(samples))]
    more = f' and {len(names) - _MAX_NAMED} others' if len(names) > _MAX_NAMED else ''
    return (', '.join(names[:_MAX_NAMED]) or 'of a batch without names') + more


def _names(samples: Any) -> Iterator[str]:
    if isinstance(samples, list | tuple):
        for sample in samples:
            yield from _names(sample)
    elif hasattr(samples, 'get'):
        name = samples.get('img_id') or samples.get('img_path')
        if name is not None:
            yield str(name)


def _faults(entries: list[Seen], together: bool = True) -> str:
    """What is wrong, of all processes where they ask ``together``."""
    faults = [fault for entry in entries if (fault := entry.fault())]
    if together and get_world_size() > 1:
        faults = [fault for found in all_gather_object(faults) for fault in found]
    if faults:
        return '; '.join(faults)
    images = ', '.join(image_names(entry.batch) for entry in entries)
    last = entries[-1]
    what = 'gradients are not finite' if last.is_finite else 'a loss of another process is not finite'
    return f'{what} in iteration {last.iteration}, of the images {images}'


def _mean(value: Any) -> Tensor:
    if isinstance(value, list | tuple):
        return sum(_mean(part) for part in value)
    return value.detach().float().mean()


def _to_host(values: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """``values`` on the CPU, and the event after which they are there."""
    if not values.is_cuda:
        return values.cpu(), None
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    ready = torch.cuda.Event()
    ready.record()
    return host, ready
