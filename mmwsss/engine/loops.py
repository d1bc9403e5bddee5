"""Training loop that resumes without reading again what was trained."""

from __future__ import annotations

from mmengine.runner.loops import IterBasedTrainLoop, _InfiniteDataloaderIterator
from torch import nn

from mmwsss.datasets.samplers import ResumableInfiniteSampler
from mmwsss.registry import LOOPS


@LOOPS.register_module()
class ResumableIterBasedTrainLoop(IterBasedTrainLoop):
    """mmengine's loop over iterations whose sampler jumps to the resumed position.

    The parent loads and drops every batch that was already trained. Needs :class:`ResumableInfiniteSampler`.

    Raises:
        TypeError: another sampler is configured.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.dataloader.sampler, ResumableInfiniteSampler):
            raise TypeError(
                "ResumableIterBasedTrainLoop needs train_dataloader.sampler=dict(type='ResumableInfiniteSampler'), got "
                f'{type(self.dataloader.sampler).__name__}'
            )
        self._sampler_has_run_seed = self.dataloader.sampler.seed == self.runner.seed

    def run(self) -> nn.Module:
        """Train from the current iteration to the last."""
        if self._iter > 0:
            sampler = self.dataloader.sampler
            if self._sampler_has_run_seed:
                sampler.seed = self.runner.seed  # a resumed run takes over the seed of its checkpoint
            sampler.start_at(self._iter * self.dataloader.batch_size)
            self.dataloader_iterator = _InfiniteDataloaderIterator(self.dataloader)
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._decide_current_val_interval()
            if self._is_validation_due():
                self.runner.val_loop.run()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _is_validation_due(self) -> bool:
        if self.runner.val_loop is None or self._iter < self.val_begin:
            return False
        return self._iter % self.val_interval == 0 or self._iter == self._max_iters
