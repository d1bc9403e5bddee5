"""Validation and test whose second half runs in threads beside the network."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import Tensor

from mmwsss.engine.overlapped_loops import finished_in_order


class Doubling(BaseModel):
    """A model whose network adds one and whose second half doubles, in whatever thread."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.threads: set[str] = set()
        self.has_gradient: set[bool] = set()
        self.products: set[torch.dtype] = set()

    def forward(self, inputs: Tensor, data_samples: list, mode: str = 'predict') -> list[dict]:
        return [finish() for finish in self.predictions(inputs, data_samples)]

    def predictions(self, inputs: Tensor, data_samples: list) -> list[Callable[[], dict]]:
        return [lambda x=x + self.weight: self.finish(x) for x in inputs]

    def finish(self, x: Tensor) -> dict:
        self.threads.add(threading.current_thread().name)
        self.has_gradient.add((x * self.weight).requires_grad)
        self.products.add((x[None] @ self.weight[:, None]).dtype)
        if x.item() > 100:
            raise ValueError('too large')
        return dict(value=2 * x.item())


class Plain(BaseModel):
    def forward(self, inputs: Tensor, data_samples: list, mode: str = 'predict') -> list:
        return []


class Collected(BaseMetric):
    """The values in the order in which they come."""

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        self.results += [sample['value'] for sample in data_samples]

    def compute_metrics(self, results: list) -> dict:
        return {str(index): value for index, value in enumerate(results)}


class Numbers(torch.utils.data.Dataset):
    def __init__(self, count: int, first: int = 0) -> None:
        self.values = torch.arange(first, first + count, dtype=torch.float32)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.values[index][None], data_samples=index)


class Seen(Hook):
    def __init__(self) -> None:
        self.calls: list = []

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.calls.append((batch_idx, [output['value'] for output in outputs]))

    def after_test(self, runner) -> None:
        self.calls.append('end')


def build(make_runner, loop: str, model: BaseModel, hook: Seen, first: int = 0, **settings):
    loader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=Numbers(7, first),
        collate_fn=dict(type='default_collate'),
    )
    return make_runner(
        1,
        model=model,
        custom_hooks=[hook],
        train_dataloader=None,
        train_cfg=None,
        optim_wrapper=None,
        test_dataloader=loader,
        test_evaluator=[Collected()],
        test_cfg=dict(type=loop, **settings),
    )


@pytest.mark.parametrize('workers', [1, 3])
def test_scores_and_hooks_are_those_of_the_parent(make_runner, workers: int) -> None:
    found = []
    for loop, settings in (('TestLoop', {}), ('OverlappedTestLoop', dict(workers=workers))):
        model, hook = Doubling(), Seen()
        scores = build(make_runner, loop, model, hook, **settings).test()
        found.append((list(scores.items()), hook.calls))
        assert model.has_gradient == {False}
        assert all(('evaluation' in name) == bool(settings) for name in model.threads)
    assert found[0] == found[1]
    assert found[1][1][-1] == 'end'
    assert len(found[1][0]) == 7


@pytest.mark.parametrize('loop', ['TestLoop', 'OverlappedTestLoop'])
def test_half_precision_reaches_the_threads(make_runner, loop: str) -> None:
    model = Doubling()
    build(make_runner, loop, model, Seen(), fp16=True).test()
    assert model.products
    assert torch.float32 not in model.products


def test_an_error_of_a_thread_ends_the_test(make_runner) -> None:
    with pytest.raises(ValueError, match='too large'):
        build(make_runner, 'OverlappedTestLoop', Doubling(), Seen(), first=98).test()


def test_the_network_does_not_run_far_ahead() -> None:
    started, release = [], threading.Event()

    def network():
        for index in range(20):
            started.append(index)
            yield index, None, [release.wait]

    batches = finished_in_order(network(), workers=1)
    threading.Timer(0.2, release.set).start()
    assert next(batches)[0] == 0
    assert len(started) <= 4
    assert [index for index, *_ in batches] == list(range(1, 20))


def test_mistakes_are_named(make_runner) -> None:
    with pytest.raises(ValueError, match='workers of OverlappedTestLoop has to be at least 1, got 0'):
        build(make_runner, 'OverlappedTestLoop', Doubling(), Seen(), workers=0).test()
    with pytest.raises(TypeError, match='Plain has none'):
        build(make_runner, 'OverlappedTestLoop', Plain(), Seen()).test()
