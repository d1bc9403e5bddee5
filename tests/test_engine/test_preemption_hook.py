"""A signal ends a training with a checkpoint from which it goes on as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from processes import start_ranks

from mmwsss.apis.checkpoints import resumable_checkpoint
from mmwsss.engine.hooks import PreemptionHook
from mmwsss.engine.preemption import Preempted, received_signal, watched_signals
from mmwsss.registry import HOOKS


@HOOKS.register_module()
class SignalHook(Hook):
    """Sends a signal in iteration ``at``, counted from 1, to this process and to those that load its data."""

    def __init__(self, at: int, name: str = 'SIGTERM', rank: int = 0) -> None:
        self.at, self.number, self.rank = at, getattr(signal, name), rank

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter + 1 == self.at and runner.rank == self.rank:
            for pid in [*(child.pid for child in multiprocessing.active_children()), os.getpid()]:
                os.kill(pid, self.number)


def hooks(interval: int = 100, **more: Any) -> dict:
    checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=interval)
    own = dict(checkpoint=checkpoint, seed=dict(type='IterationSeedHook'), preemption=dict(type='PreemptionHook'))
    return {**dict(logger=None, timer=None, param_scheduler=None), **own, **more}


def train(make_runner: Callable[..., Runner], *args: Any, **settings: Any) -> Runner:
    with watched_signals():
        runner = make_runner(*args, **settings)
        runner.train()
    return runner


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGUSR1'])
@pytest.mark.parametrize('workers', [0, 1])
def test_it_goes_on_exactly(make_runner, assert_same_state, tmp_path: Path, name: str, workers: int) -> None:
    straight = train(make_runner, 4, work_dir=str(tmp_path / 'straight'), default_hooks=hooks())
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    fault = dict(type='SignalHook', at=2, name=name)
    with pytest.raises(Preempted, match=f'{name}: training has stopped after iteration 2 of 4, .* --resume'):
        train(make_runner, 4, num_workers=workers, default_hooks=hooks(), custom_hooks=[fault])
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before
    assert received_signal() is None
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGTERM, signal.SIGUSR1}
    assert not [child for child in multiprocessing.active_children() if child.daemon]
    last = resumable_checkpoint(str(tmp_path / 'work'), pytest.fail)
    assert last.endswith('iter_2.pth')
    resumed = train(make_runner, 4, num_workers=workers, default_hooks=hooks(), load_from=last, resume=True)
    assert_same_state(resumed, straight)


@pytest.mark.parametrize('workers', [0, 1])
def test_a_step_is_finished(make_runner, workers: int) -> None:
    """With data that was not yet asked for when the signal came to those who load it as well."""
    wrapper = dict(type='OptimWrapper', accumulative_counts=6, optimizer=dict(type='SGD', lr=0.05))
    settings = dict(default_hooks=hooks(), custom_hooks=[dict(type='SignalHook', at=1)], num_workers=workers)
    with pytest.raises(Preempted, match='after iteration 6 of 8'):
        train(make_runner, 8, optim_wrapper=wrapper, **settings)


def test_a_step_is_finished_soon_after_the_exchange(make_runner, monkeypatch: pytest.MonkeyPatch) -> None:
    group = SimpleNamespace(all_reduce=lambda *_, **__: None, barrier=lambda *_: None)
    monkeypatch.setattr('mmwsss.engine.hooks.preemption_hook.dist', group)
    wrapper = dict(type='OptimWrapper', accumulative_counts=3, optimizer=dict(type='SGD', lr=0.05))
    own = hooks(preemption=dict(type='PreemptionHook', interval=4))
    signals = [dict(type='SignalHook', at=2)]
    with watched_signals():
        runner = make_runner(20, optim_wrapper=wrapper, default_hooks=own, custom_hooks=signals)
        (hook,) = [hook for hook in runner.hooks if isinstance(hook, PreemptionHook)]
        hook._group = group
        with pytest.raises(Preempted, match='after iteration 6 of 20'):
            runner.train()


def test_the_last_iteration_ends_as_ever(make_runner) -> None:
    runner = train(make_runner, 2, default_hooks=hooks(), custom_hooks=[dict(type='SignalHook', at=2)])
    assert runner.iter == 2


def test_nobody_watches(make_runner) -> None:
    runner = make_runner(2, default_hooks=hooks())
    runner.train()
    assert runner.iter == 2


def _rank(rank: int, make_runner: Callable[..., Runner], work_dir: str) -> dict[str, Any]:
    wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)
    settings = dict(
        launcher='pytorch',
        cfg=dict(model_wrapper_cfg=wrapper),
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        default_hooks=hooks(preemption=dict(type='PreemptionHook', interval=2)),
        custom_hooks=[dict(type='SignalHook', at=3, name='SIGUSR1', rank=1)],
    )
    try:
        train(make_runner, 8, work_dir=work_dir, **settings)
    except Preempted as stop:
        return dict(stopped=str(stop), files=sorted(path.name for path in Path(work_dir).glob('iter_*')))
    return {}


def test_all_processes_stop_at_the_same_iteration(make_runner, tmp_path: Path) -> None:
    (tmp_path / 'group').mkdir()
    results = start_ranks(_rank, 2, tmp_path / 'group', make_runner, str(tmp_path / 'work'))
    assert [found['files'] for found in results] == [['iter_4.pth']] * 2
    assert results[0]['stopped'].startswith('signal to another process: training has stopped after iteration 4 of 8')
    assert results[1]['stopped'].startswith('SIGUSR1: ')
    assert torch.load(tmp_path / 'work' / 'iter_4.pth', weights_only=True)['meta']['iter'] == 4
