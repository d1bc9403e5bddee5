"""The model is told how far its training has come."""

from __future__ import annotations

import logging
import re
from types import SimpleNamespace

import pytest
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmwsss.engine.hooks import AssignmentHook, IterationHook


class Counted(BaseModel):
    """A linear layer that notes the iteration of every step; it has no second network."""

    def __init__(self, warmup_iters: int | None = None) -> None:
        super().__init__()
        self.head = nn.Linear(4, 1)
        self.iteration = None
        self.iterations: list[int | None] = []
        if warmup_iters is not None:
            self.warmup_iters = warmup_iters

    def forward(self, x: Tensor, y: Tensor, mode: str = 'tensor') -> dict[str, Tensor]:
        self.iterations.append(self.iteration)
        return dict(loss=(self.head(x) - y).square().mean())


def test_the_iteration_is_set_before_every_step(make_runner) -> None:
    model = Counted()
    make_runner(4, model=model, custom_hooks=[dict(type='IterationHook')]).train()
    assert model.iterations == [0, 1, 2, 3]


def test_a_resumed_training_goes_on_counting(make_runner, tmp_path) -> None:
    hooks = [dict(type='IterationHook')]
    make_runner(2, model=Counted(), custom_hooks=hooks).train()
    model = Counted()
    settings = dict(load_from=str(tmp_path / 'work' / 'iter_2.pth'), resume=True, work_dir=str(tmp_path / 'resumed'))
    make_runner(4, model=model, custom_hooks=hooks, **settings).train()
    assert model.iterations == [2, 3]


def test_without_the_hook_nobody_says_it(make_runner) -> None:
    model = Counted()
    make_runner(2, model=model).train()
    assert model.iterations == [None, None]


def test_the_model_inside_a_wrapper_is_told() -> None:
    model = Counted()
    runner = SimpleNamespace(model=nn.DataParallel(model), iter=6, max_iters=9, param_schedulers=None)
    hook = IterationHook()
    hook.before_train(runner)
    hook.before_train_iter(runner, 2)
    assert model.iteration == 6


@pytest.mark.parametrize(
    ('scheduled', 'warmup', 'expected'),
    [
        (3, None, []),
        (3, 2, []),
        (3, 3, []),
        (20, None, [r'scheduled for 20 iterations, training takes 3; set param_scheduler\.1\.max_iters=3']),
        (3, 4, [r'warm-up of the model takes 4 iterations, training 3; set model\.warmup_iters']),
        (2, 9, [r'param_scheduler\.1\.max_iters=3', r'set model\.warmup_iters']),
    ],
)
def test_lengths_that_do_not_fit_are_mentioned(
    make_runner, monkeypatch, scheduled: int, warmup: int | None, expected: list[str]
) -> None:
    lines = []
    monkeypatch.setattr(
        'mmwsss.engine.hooks.iteration_hook.print_log', lambda line, logger, level: lines.append((line, level))
    )
    model = Counted(warmup)
    schedulers = [dict(type='ConstantLR', by_epoch=False), dict(type='WarmupPolyLR', max_iters=scheduled)]
    make_runner(3, model=model, custom_hooks=[dict(type='IterationHook')], param_scheduler=schedulers).train()
    assert model.iterations == [0, 1, 2]
    assert len(lines) == len(expected)
    for (line, level), pattern in zip(lines, expected):
        assert re.search(pattern, line)
        assert level == logging.WARNING


def test_schedules_of_parts_are_not_read() -> None:
    runner = SimpleNamespace(model=Counted(), max_iters=9, param_schedulers=dict(a=[], b=[]))
    IterationHook().before_train(runner)


def test_what_needs_a_second_network_names_this_hook(make_runner) -> None:
    assert issubclass(AssignmentHook, IterationHook)
    runner = make_runner(2, model=Counted(), custom_hooks=[dict(type='AssignmentHook')])
    with pytest.raises(TypeError, match=r'Counted has none; put IterationHook in its place in custom_hooks'):
        runner.train()
