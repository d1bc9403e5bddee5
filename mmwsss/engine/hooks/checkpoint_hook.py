"""Checkpoints that survive a killed process and a full disk."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook as HostCheckpointHook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmwsss.engine.sharded_optimizer import ShardedOptimizer
from mmwsss.engine.whole_files import WHOLE_FILES, WholeFileBackend
from mmwsss.registry import HOOKS
from mmwsss.utils.files import remove_partial_files, write_text

from .iteration_hook import unwrap

POINTER = 'last_checkpoint'
_GRADIENTS = 'gradients'


@HOOKS.register_module()
class CheckpointHook(HostCheckpointHook):
    """mmengine's hook of the same name, whose place it takes in configs of this package.

    Every file appears whole or not at all, ``last_checkpoint`` too, and older checkpoints are removed only when the new
    one is on the disk: the room of one more is needed. The state of a :class:`~mmwsss.engine.ShardedOptimizer` is
    gathered before the first process saves it. Where a single process accumulates gradients over several iterations,
    those of an unfinished step are saved, and resumed; of several processes each has its own, so choose an
    ``interval`` that is a multiple there. ``meta.config`` of a checkpoint, Python code that mmengine runs when it
    resumes, is dropped.

    Args:
        backend_args: of another place than local files, which then keeps its own promises.
        kwargs: those of mmengine's hook.
    """

    def __init__(self, *args: Any, backend_args: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        elsewhere = kwargs.get('file_client_args') is not None or '://' in str(kwargs.get('out_dir'))
        if backend_args is None and not elsewhere:
            backend_args = WHOLE_FILES
        super().__init__(*args, backend_args=None if backend_args is None else dict(backend_args), **kwargs)
        self._gradients: Mapping[str, Any] | None = None

    def before_train(self, runner: Runner) -> None:
        """Prepare the folder, and give a resumed run the gradients of its unfinished step.

        Raises:
            RuntimeError: processes would begin at different iterations, as not all of them see the checkpoint.
        """
        super().before_train(runner)
        _check_same_start(runner)
        if is_main_process() and isinstance(self.file_backend, WholeFileBackend) and Path(self.out_dir).is_dir():
            remove_partial_files(self.out_dir, below=False)
        if self._gradients is not None:
            for name, weight in unwrap(runner.model).named_parameters():
                if name in self._gradients:
                    weight.grad = self._gradients[name].to(weight)
            self._gradients = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take what this hook has saved out of ``checkpoint``, and the code that mmengine would run."""
        meta = checkpoint.get('meta')
        if isinstance(meta, dict) and meta.pop('config', None) is not None:
            print_log('meta.config of the checkpoint is Python code and was not run', 'current', logging.WARNING)
        gradients = checkpoint.pop(_GRADIENTS, None)
        if runner._resume:
            self._gradients = gradients

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the gradients of an unfinished step to a checkpoint that one can resume from."""
        if 'optimizer' in checkpoint and get_world_size() == 1 and is_step_unfinished(runner):
            weights = unwrap(runner.model).named_parameters()
            checkpoint[_GRADIENTS] = {name: weight.grad.cpu() for name, weight in weights if weight.grad is not None}

    def save_now(self, runner: Runner) -> None:
        """Save the iteration that just ended as the one to resume from, unless that has happened already."""
        iteration = runner.iter + 1
        if not self.every_n_train_iters(runner, self.interval, self.save_begin):
            self._save_checkpoint_with_step(runner, iteration, dict(epoch=runner.epoch, iter=iteration))

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if self.save_optimizer:
            gather_optimizer(runner)
        if not isinstance(self.file_backend, WholeFileBackend):
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        name = self.filename_tmpl.format(step)
        outdated = self._outdated(runner, step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_text(Path(runner.work_dir, POINTER), self.last_ckpt)
            for path in outdated:
                if path != self.last_ckpt:  # with a filename_tmpl without number
                    Path(path).unlink(missing_ok=True)

    def _outdated(self, runner: Runner, step: int) -> list[str]:
        """Files that are not to be kept once ``step`` is saved, which is noted as kept."""
        if self.max_keep_ckpts <= 0 or step in self.keep_ckpt_ids:
            return []
        full = len(self.keep_ckpt_ids) == self.max_keep_ckpts
        outdated = [self.keep_ckpt_ids.popleft()] if full else []
        self.keep_ckpt_ids.append(step)
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        return [self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old)) for old in outdated]

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not isinstance(self.file_backend, WholeFileBackend):
            super()._save_best_checkpoint(runner, metrics)
            return
        with self.file_backend.removing_later():
            super()._save_best_checkpoint(runner, metrics)


def _check_same_start(runner: Runner) -> None:
    starts = all_gather_object(runner.iter)
    if len(set(starts)) > 1:
        raise RuntimeError(
            f'processes would go on from different iterations ({", ".join(map(str, starts))} by rank); all nodes have '
            f'to see the checkpoints of {runner.work_dir}: put it on a shared disk, or copy the checkpoint to all'
        )


def gather_optimizer(runner: Runner) -> None:
    """Bring an optimizer state that is shared out to the first process, which saves alone; called on all."""
    optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
    if isinstance(optimizer, ShardedOptimizer):
        optimizer.gather_state()


def is_step_unfinished(runner: Runner) -> bool:
    """Whether the optimizer waits for the gradients of further iterations."""
    wrapper = runner.optim_wrapper
    return getattr(wrapper, '_accumulative_counts', 1) > 1 and not wrapper.should_update()
