"""Training loop that resumes without reading again what was trained, and validation of two networks."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.model import is_model_wrapper
from mmengine.runner.loops import IterBasedTrainLoop, ValLoop, _InfiniteDataloaderIterator
from torch import nn

from mmwsss.datasets.samplers import ResumableInfiniteSampler
from mmwsss.registry import LOOPS

VALIDATED = 'validated_iter'  # in the message hub: the iteration that was validated last
BEST_STREAM = 'best_stream'  # what scores and notes in the message hub are named after
DEFAULT_STREAMS = ('assignment', 'online')
DEFAULT_SELECT = 'pseudo_mIoU+tags'


@LOOPS.register_module()
class ResumableIterBasedTrainLoop(IterBasedTrainLoop):
    """mmengine's loop over iterations whose sampler jumps to the resumed position.

    The parent loads and drops every batch that was already trained. Needs :class:`ResumableInfiniteSampler`.

    A checkpoint is saved before the validation of its iteration. Where a ``CheckpointHook`` keeps the best one, or an
    ``EarlyStoppingHook`` counts, a run that is resumed from such a checkpoint validates first, unless the checkpoint
    says that this was done, so that both are what they would have been whenever the run was killed.

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
        self._repeat_validation()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._decide_current_val_interval()
            if self._is_validation_due():
                self._validate()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _validate(self) -> None:
        self.runner.message_hub.update_info(VALIDATED, self._iter)  # before, as a best checkpoint is saved in it
        self.runner.val_loop.run()

    def _repeat_validation(self) -> None:
        """Validate the resumed iteration where it is due and its checkpoint does not say that it was done."""
        if self._iter == 0:
            return
        self._decide_current_val_interval()
        hub = self.runner.message_hub.runtime_info
        keeping = [hook for hook in self.runner.hooks if isinstance(hook, CheckpointHook) and hook.save_best]
        counting = any(isinstance(hook, EarlyStoppingHook) for hook in self.runner.hooks)
        if (keeping or counting) and self._is_validation_due() and hub.get(VALIDATED) != self._iter:
            for hook in keeping:
                hook.last_ckpt = hub.get('last_ckpt')  # else the resumed checkpoint would not learn of a new best one
            self._validate()

    def _is_validation_due(self) -> bool:
        if self.runner.val_loop is None or self._iter < self.val_begin:
            return False
        return self._iter % self.val_interval == 0 or self._iter == self._max_iters


@LOOPS.register_module()
class TwoStreamValLoop(ValLoop):
    """Validate a model of two networks once with each of them (CoSA).

    The model predicts with the network that its attribute ``stream`` names. Scores of that stream keep their names,
    those of another one become ``<stream>/<name>``, and ``best_stream/<name>`` is the larger of the scores in
    ``select``. The stream it comes from is logged and noted under the same name in the message hub, that of the first
    of ``select`` as ``best_stream`` too, and so in the checkpoint that
    ``CheckpointHook(save_best='best_stream/<name>', rule='greater')`` writes.

    Choosing a checkpoint or a stream by the masks of a validation set is supervision by pixels, as in the released
    code. Without ``save_best`` nothing is chosen: the last checkpoint and the configured stream are the result.

    Args:
        streams: names of the streams in the order of validation; at equal scores the first is the better one.
        select: names of scores, larger is better.

    Raises:
        TypeError: the model has no attribute ``stream``.
        ValueError: the model has no network of a name in ``streams``, or one of both lists is empty.
        KeyError: a name of ``select`` is not among the scores.
    """

    def __init__(
        self,
        *args,
        streams: Sequence[str] = DEFAULT_STREAMS,
        select: str | Sequence[str] = DEFAULT_SELECT,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.streams = tuple(streams)
        self.select = (select,) if isinstance(select, str) else tuple(select)
        if not (self.streams and self.select):
            raise ValueError('TwoStreamValLoop: streams and select in val_cfg need a name each, one is empty')
        model = self._model
        if not hasattr(model, 'stream'):
            raise TypeError(
                f'TwoStreamValLoop needs a model with an attribute stream, {type(model).__name__} has none; set '
                "val_cfg=dict(type='ValLoop')"
            )
        if missing := [stream for stream in self.streams if not hasattr(model, stream)]:
            raise ValueError(
                f'TwoStreamValLoop: val_cfg.streams names {missing[0]!r}, {type(model).__name__} has no such network; '
                f'remove it, the default is {DEFAULT_STREAMS}'
            )

    @property
    def _model(self) -> nn.Module:
        model = self.runner.model
        return model.module if is_model_wrapper(model) else model

    def run(self) -> dict[str, float]:
        """Validate all streams and return their scores."""
        runner, model = self.runner, self._model
        runner.call_hook('before_val')
        runner.call_hook('before_val_epoch')
        runner.model.eval()
        configured = model.stream
        found = {}
        try:
            for stream in self.streams:
                model.stream = stream
                found[stream] = self._score()
        finally:
            model.stream = configured
        scores = self._merge(found, configured)
        runner.call_hook('after_val_epoch', metrics=scores)
        runner.call_hook('after_val')
        return scores

    def _score(self) -> dict[str, float]:
        for index, batch in enumerate(self.dataloader):
            self.run_iter(index, batch)
        return self.evaluator.evaluate(len(self.dataloader.dataset))

    def _merge(self, found: dict[str, dict[str, float]], configured: str) -> dict[str, float]:
        scores = {
            name if stream == configured else f'{stream}/{name}': value
            for stream, values in found.items()
            for name, value in values.items()
        }
        for name in self.select:
            missing = [stream for stream, values in found.items() if name not in values]
            if missing:
                known = ', '.join(found[missing[0]])
                raise KeyError(f'TwoStreamValLoop: select names {name!r}, the scores of {missing[0]} are {known}')
            values = {stream: own[name] for stream, own in found.items()}
            best = max(values, key=values.get)
            key = f'{BEST_STREAM}/{name}'
            scores[key] = values[best]
            self.runner.message_hub.update_info(key, best)
            if name == self.select[0]:
                self.runner.message_hub.update_info(BEST_STREAM, best)
            self.runner.logger.info(f'{key}: {best}')
        return scores
