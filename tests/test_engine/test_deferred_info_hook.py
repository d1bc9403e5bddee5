"""Losses read from the device when the log needs them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmwsss.engine.hooks import DeferredRuntimeInfoHook


def hooks(deferred: bool, logged: int = 4, saved: int = 3) -> dict:
    kind = 'DeferredRuntimeInfoHook' if deferred else 'RuntimeInfoHook'
    return dict(
        runtime_info=dict(type=kind),
        logger=dict(type='LoggerHook', interval=logged, log_metric_by_epoch=False),
        timer=None,
        param_scheduler=None,
        checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=saved),
        iteration_seed=dict(type='IterationSeedHook'),
    )


def losses(hub: dict) -> list[float]:
    return hub['log_scalars']['train/loss']._log_history.tolist()


def test_history_and_checkpoints_are_those_of_the_parent(make_runner, tmp_path: Path) -> None:
    found = []
    for deferred in (False, True):
        runner = make_runner(9, default_hooks=hooks(deferred), work_dir=str(tmp_path / str(deferred)))
        runner.train()
        saved = [
            torch.load(tmp_path / str(deferred) / f'iter_{i}.pth', weights_only=False)['message_hub'] for i in (3, 6, 9)
        ]
        found.append([losses(runner.message_hub.state_dict()), *map(losses, saved)])
        assert 'loop_stage' not in runner.message_hub.runtime_info  # a validation after the training has its own
    assert found[0] == found[1]
    assert [len(history) for history in found[1]] == [9, 3, 6, 9]


def test_values_are_read_where_the_log_needs_them(make_runner, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = make_runner(10, default_hooks=hooks(True, logged=4, saved=100))
    reads, read = [], DeferredRuntimeInfoHook._read

    def count(self: DeferredRuntimeInfoHook, runner) -> None:
        reads.append((runner.iter + 1, len(self._waiting)))
        read(self, runner)

    monkeypatch.setattr(DeferredRuntimeInfoHook, '_read', count)
    runner.train()
    # Every 2 iterations, which the 50 of the hook and the 4 of the log are multiples of.
    assert [read for read in reads if read[1]] == [(2, 2), (4, 2), (6, 2), (8, 2), (10, 2)]


def test_outputs_may_be_numbers(make_runner) -> None:
    runner, hook = make_runner(4, default_hooks=hooks(True)), DeferredRuntimeInfoHook()
    hook.after_train_iter(runner, 0, outputs=dict(loss=torch.tensor([1.5], dtype=torch.float64), rate=2))
    hook._read(runner)
    assert [runner.message_hub.get_scalar(f'train/{name}').current() for name in ('loss', 'rate')] == [1.5, 2]


def test_interval_is_positive() -> None:
    with pytest.raises(ValueError, match='interval of DeferredRuntimeInfoHook has to be at least 1, got 0'):
        DeferredRuntimeInfoHook(interval=0)
