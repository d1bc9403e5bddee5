"""Validation and test whose refiners run beside the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar

import torch
from mmengine.runner.amp import autocast
from mmengine.runner.loops import TestLoop, ValLoop
from mmseg.structures import SegDataSample

from mmwsss.engine.hooks.iteration_hook import unwrap
from mmwsss.registry import LOOPS

Finish = Callable[[], SegDataSample]
_WAITING_PER_WORKER = 2


class _Overlapping:
    """What both loops share: batches in order, each finished in threads while the network runs on the next ones.

    Args:
        workers: threads; each finishes one image at a time.

    Raises:
        ValueError: no worker.
        TypeError: the model has no ``predictions``.
    """

    kind: ClassVar[str]  # of the hooks

    def __init__(self, *args: Any, workers: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if workers < 1:
            raise ValueError(f'workers of {type(self).__name__} has to be at least 1, got {workers}')
        self.workers = workers
        model = unwrap(self.runner.model)
        if not hasattr(model, 'predictions'):
            raise TypeError(
                f'{type(self).__name__} needs a model with a method predictions, {type(model).__name__} has none; '
                'use the loop of mmengine'
            )

    @torch.no_grad()
    def run(self) -> dict[str, float]:
        """Run over all batches and return the scores."""
        runner, kind = self.runner, self.kind
        runner.call_hook(f'before_{kind}')
        runner.call_hook(f'before_{kind}_epoch')
        runner.model.eval()
        for index, batch, outputs in finished_in_order(self._started(), self.workers, self.fp16):
            self.evaluator.process(data_samples=outputs, data_batch=batch)
            runner.call_hook(f'after_{kind}_iter', batch_idx=index, data_batch=batch, outputs=outputs)
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        runner.call_hook(f'after_{kind}_epoch', metrics=metrics)
        runner.call_hook(f'after_{kind}')
        return metrics

    def _started(self) -> Iterator[tuple[int, Any, list[Finish]]]:
        """Batches after the network."""
        model = unwrap(self.runner.model)
        for index, batch in enumerate(self.dataloader):
            self.runner.call_hook(f'before_{self.kind}_iter', batch_idx=index, data_batch=batch)
            with autocast(enabled=self.fp16):
                data = model.data_preprocessor(batch, False)
                finishing = model.predictions(data['inputs'], data['data_samples'])
            yield index, batch, finishing


def finished_in_order(
    started: Iterable[tuple[int, Any, list[Finish]]], workers: int, half: bool = False
) -> Iterator[tuple[int, Any, list[SegDataSample]]]:
    """Call the functions of each batch in ``workers`` threads, with few batches between; an error stops all.

    The threads work on the GPU of the caller, and with ``half`` by autocast.
    """
    pending: deque[tuple[int, Any, list[Future]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix='evaluation')
    device = torch.cuda.current_device() if torch.cuda.is_available() else -1

    def oldest() -> tuple[int, Any, list[SegDataSample]]:
        index, batch, futures = pending.popleft()
        return index, batch, [future.result() for future in futures]

    try:
        for index, batch, functions in started:
            pending.append((index, batch, [pool.submit(_finished, function, half, device) for function in functions]))
            while len(pending) > _WAITING_PER_WORKER * workers:
                yield oldest()
        while pending:
            yield oldest()
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(function: Finish, half: bool, device: int) -> SegDataSample:
    """Result of ``function`` in a thread, which does not take over these modes from the one that started it."""
    with torch.no_grad(), autocast(enabled=half), torch.cuda.device(device):
        return function()


@LOOPS.register_module()
class OverlappedValLoop(_Overlapping, ValLoop):
    """mmengine's ``ValLoop`` in which what follows the network (dense CRF, masks) runs in threads beside it.

    Scores are those of the parent; hooks see the samples in the same order.
    """

    kind = 'val'


@LOOPS.register_module()
class OverlappedTestLoop(_Overlapping, TestLoop):
    """mmengine's ``TestLoop`` with the overlap of :class:`OverlappedValLoop`."""

    kind = 'test'
