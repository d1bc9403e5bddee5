"""The second network follows every step of the optimizer."""

from __future__ import annotations

import copy
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmwsss.engine.hooks import AssignmentHook
from mmwsss.models.utils import ema_update_


class TwoNets(BaseModel):
    """A linear layer with its moving average, which notes what the hook does."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 1)
        self.assignment = copy.deepcopy(self.head).requires_grad_(False)
        self.iteration = -1
        self.iterations: list[int] = []
        self.updates: list[tuple[int, Tensor]] = []

    def forward(self, x: Tensor, y: Tensor, mode: str = 'tensor') -> dict[str, Tensor]:
        self.iterations.append(self.iteration)
        return dict(loss=(self.head(x) - y).square().mean())

    def update_assignment(self) -> None:
        self.updates.append((self.iteration, self.head.weight.detach().clone()))
        ema_update_(self.assignment, self.head, 0.75)


class Recorder(Hook):
    """Notes both weights as the last hook of every iteration."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.heads, self.assignments = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.heads.append(runner.model.head.weight.detach().clone())
        self.assignments.append(runner.model.assignment.weight.clone())


@pytest.mark.parametrize(
    ('accumulate', 'steps'), [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (3, [2, 4]), (5, [4]), (7, [4])]
)
def test_it_follows_every_step_and_no_other_iteration(
    make_runner, tmp_path: Path, accumulate: int, steps: list[int]
) -> None:
    recorder, model = Recorder(), TwoNets()
    start, first = model.assignment.weight.clone(), model.head.weight.detach().clone()
    wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=0.05), accumulative_counts=accumulate)
    hooks = [dict(type='AssignmentHook'), recorder]
    make_runner(5, model=model, custom_hooks=hooks, optim_wrapper=wrapper).train()
    assert model.iterations == [0, 1, 2, 3, 4]
    assert [iteration for iteration, _ in model.updates] == steps
    heads = [first, *recorder.heads]
    assert [i for i in range(5) if not torch.equal(heads[i], heads[i + 1])] == steps, 'the optimizer moved then'
    for iteration, head in model.updates:
        assert torch.equal(head, recorder.heads[iteration]), 'the hook sees the weights after the step'

    expected = start
    for iteration in range(5):
        if iteration in steps:
            expected = 0.75 * expected + 0.25 * recorder.heads[iteration]
        torch.testing.assert_close(recorder.assignments[iteration], expected)
        saved = torch.load(tmp_path / 'work' / f'iter_{iteration + 1}.pth', weights_only=False)['state_dict']
        assert torch.equal(saved['assignment.weight'], recorder.assignments[iteration]), 'saved after the update'


def test_resuming_continues_both_networks(make_runner, assert_same_state, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = TwoNets()
    runners = [make_runner(4, model=copy.deepcopy(model), custom_hooks=[dict(type='AssignmentHook')])]
    runners[0].train()
    path = str(tmp_path / 'work' / 'iter_2.pth')
    settings = dict(load_from=path, resume=True, work_dir=str(tmp_path / 'resumed'))
    runners.append(make_runner(4, model=model, custom_hooks=[dict(type='AssignmentHook')], **settings))
    runners[1].train()
    assert_same_state(*runners)
    assert model.iterations == [2, 3]


def test_a_wrapped_model_is_unwrapped() -> None:
    model = TwoNets()
    runner = SimpleNamespace(
        model=nn.DataParallel(model),
        iter=6,
        max_iters=9,
        param_schedulers=None,
        optim_wrapper=SimpleNamespace(should_update=lambda: True),
        hooks=[],
    )
    hook = AssignmentHook()
    hook.before_train(runner)
    hook.before_train_iter(runner, 6)
    hook.after_train_iter(runner, 6)
    assert model.iteration == 6
    assert len(model.updates) == 1


@pytest.mark.parametrize(
    ('scheduled', 'warmup', 'expected'),
    [
        (3, 2, []),
        (3, 3, []),  # a warm-up for the whole training is meant so
        (20, 3, [r'scheduled for 20 iterations, training takes 3; set param_scheduler\.1\.max_iters=3']),
        (3, 4, [r'warm-up of the model takes 4 iterations, training 3; set model\.warmup_iters']),
        (2, 9, [r'param_scheduler\.1\.max_iters=3', r'set model\.warmup_iters']),
    ],
)
def test_other_lengths_of_training_are_mentioned_once(
    make_runner, monkeypatch, scheduled: int, warmup: int, expected: list[str]
) -> None:
    lines = []
    monkeypatch.setattr(
        'mmwsss.engine.hooks.iteration_hook.print_log', lambda line, logger, level: lines.append((line, level))
    )
    model = TwoNets()
    model.warmup_iters = warmup
    schedulers = [dict(type='ConstantLR', by_epoch=False), dict(type='WarmupPolyLR', max_iters=scheduled)]
    make_runner(3, model=model, custom_hooks=[dict(type='AssignmentHook')], param_scheduler=schedulers).train()
    assert model.iterations == [0, 1, 2]
    assert len(lines) == len(expected)
    for (line, level), pattern in zip(lines, expected):
        assert re.search(pattern, line)
        assert level == logging.WARNING


def test_a_model_without_assignment_network_is_refused(make_runner) -> None:
    runner = make_runner(2, custom_hooks=[dict(type='AssignmentHook')])
    with pytest.raises(TypeError, match=r'needs a model with update_assignment\(\), Net has none'):
        runner.train()
    assert runner.model.seen == []
