"""Warm-up of the head, then everything with a fresh optimizer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import Hook

from mmwsss.engine.hooks import TwoPhaseTrainHook
from mmwsss.engine.hooks.two_phase_hook import split_param_groups


class Recorder(Hook):
    """Notes rates, the backbone and the age of Adam's state around every iteration."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.rates, self.backbones, self.states = [], [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        groups = runner.optim_wrapper.optimizer.param_groups
        self.rates.append({group['waiting']: group['lr'] for group in groups})
        self.states.append(len(runner.optim_wrapper.optimizer.state))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.backbones.append(runner.model.backbone.weight.detach().clone())


def phases(**settings) -> dict:
    return dict(type='TwoPhaseTrainHook', **{**dict(warmup_iters=3, warmup_lr=0.2, lr=0.05), **settings})


@pytest.mark.parametrize('optimizer', [dict(type='Adam', lr=0.05), dict(type='AdamW', lr=0.05, weight_decay=0.1),
                                       dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.1)])  # fmt: skip
def test_the_backbone_waits_to_the_last_bit(make_runner, optimizer: dict) -> None:
    recorder = Recorder()
    wrapper = dict(type='OptimWrapper', optimizer=optimizer)
    runner = make_runner(5, custom_hooks=[phases(), recorder], optim_wrapper=wrapper)
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    runner.train()
    assert all(torch.equal(weight, before['backbone.weight']) for weight in recorder.backbones[:3])
    assert not torch.equal(recorder.backbones[3], before['backbone.weight'])
    assert not torch.equal(runner.model.head.weight, before['head.weight'])
    assert recorder.rates == [{False: 0.2, True: 0.0}] * 3 + [{False: 0.05, True: 0.05}] * 2


def test_the_log_has_the_rate_of_the_iteration(make_runner) -> None:
    runner = make_runner(5, custom_hooks=[phases()])
    runner.train()
    rates, _ = runner.message_hub.get_scalar('train/lr').data
    assert rates.tolist() == [0.2, 0.2, 0.2, 0.05, 0.05]


@pytest.mark.parametrize('reset', [True, False])
def test_moments_are_forgotten_at_the_change(make_runner, reset: bool) -> None:
    recorder = Recorder()
    runner = make_runner(5, custom_hooks=[phases(reset_optimizer=reset), recorder])
    runner.train()
    assert recorder.states == [0, 4, 4, 0 if reset else 4, 4]
    steps = {int(state['step']) for state in runner.optim_wrapper.optimizer.state.values()}
    assert steps == {2 if reset else 5}


@pytest.mark.parametrize('at', [1, 2, 3, 4])
def test_resuming_in_either_phase_and_at_the_change(make_runner, assert_same_state, tmp_path: Path, at: int) -> None:
    straight = make_runner(5, custom_hooks=[phases()])
    straight.train()
    resumed = make_runner(
        5,
        custom_hooks=[phases()],
        load_from=str(tmp_path / 'work' / f'iter_{at}.pth'),
        resume=True,
        work_dir=str(tmp_path / 'resumed'),
    )
    resumed.train()
    assert_same_state(resumed, straight)


def test_length_in_epochs(make_runner) -> None:
    recorder = Recorder()
    hook = phases(warmup_iters=None, warmup_epochs=1.5)
    runner = make_runner(6, custom_hooks=[hook, recorder])
    runner.train()  # 7 items in whole batches of 2: 3 iterations a pass, round(1.5 * 3) = 4
    assert [rates[True] == 0 for rates in recorder.rates] == [True] * 4 + [False] * 2


def test_no_warm_up_keeps_the_state_and_takes_the_optimizers_rate(make_runner) -> None:
    recorder = Recorder()
    make_runner(2, custom_hooks=[phases(warmup_iters=0, lr=None), recorder]).train()
    assert recorder.rates == [{False: 0.05, True: 0.05}] * 2


def test_groups_are_split_and_keep_their_settings() -> None:
    model = torch.nn.ModuleDict(dict(backbone=torch.nn.Linear(2, 2), head=torch.nn.Linear(2, 1)))
    groups = [
        dict(params=[model['backbone'].weight, model['head'].weight], weight_decay=0.3),
        dict(params=[model['head'].bias, model['backbone'].bias], weight_decay=0.0),
    ]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    for _ in range(2):  # a second time changes nothing
        split_param_groups(optimizer, model, 'backbone.')
        found = [
            (g['waiting'], g['weight_decay'], [tuple(p.shape) for p in g['params']]) for g in optimizer.param_groups
        ]
        assert found == [
            (False, 0.3, [(1, 2)]), (True, 0.3, [(2, 2)]), (False, 0.0, [(1,)]), (True, 0.0, [(2,)]),
        ]  # fmt: skip


def test_something_has_to_wait_and_train() -> None:
    model = torch.nn.ModuleDict(dict(backbone=torch.nn.Linear(2, 2), head=torch.nn.Linear(2, 1)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(ValueError, match=r"no trainable parameter starts with 'encoder\.'"):
        split_param_groups(optimizer, model, 'encoder.')
    model['backbone'].requires_grad_(False)
    with pytest.raises(ValueError, match='set waiting to the prefix of the backbone'):
        split_param_groups(optimizer, model, 'backbone.')


def test_exactly_one_length() -> None:
    for lengths in ({}, dict(warmup_iters=1, warmup_epochs=1)):
        with pytest.raises(ValueError, match='either warmup_iters or warmup_epochs'):
            TwoPhaseTrainHook(**lengths)


def test_schedulers_are_refused(make_runner) -> None:
    runner = make_runner(
        2, custom_hooks=[phases()], param_scheduler=[dict(type='PolyLR', eta_min=0, begin=0, end=2, by_epoch=False)]
    )
    with pytest.raises(ValueError, match=r'set param_scheduler=\[\]'):
        runner.train()


def test_a_test_run_leaves_the_unbuilt_optimizer_alone() -> None:
    wrapper = ConfigDict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1.0))
    for value in (None, wrapper):
        runner = SimpleNamespace(optim_wrapper=value, param_schedulers=[], model=torch.nn.Linear(1, 1))
        TwoPhaseTrainHook(warmup_iters=1).before_run(runner)
