"""Losses that are nan or infinite stop a training or cost it one step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import Runner
from mmseg.structures import SegDataSample
from processes import start_ranks
from resume_cases import make_config
from tiny_configs import write_data
from torch import Tensor

from mmwsss.apis import launch
from mmwsss.engine.hooks import NonFiniteLoss, NonFiniteLossHook
from mmwsss.engine.hooks.non_finite_hook import image_names
from mmwsss.models.losses import MultiLabelClsLoss

BAD = (3,)  # iterations, counted from 1, whose loss is not finite


def hooks(**settings: Any) -> dict[str, Any]:
    return dict(
        logger=None,
        timer=None,
        param_scheduler=None,
        checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1),
        iteration_seed=dict(type='IterationSeedHook'),
        non_finite=dict(type='NonFiniteLossHook', **settings),
    )


def break_losses(runner: Runner, bad: tuple[int, ...] = BAD, value: float = float('nan')) -> None:
    """Let the loss of the iterations ``bad`` be ``value``, and count the iterations in a buffer."""
    model = runner.model.module if hasattr(runner.model, 'module') else runner.model
    plain = model.forward
    model.register_buffer('seen_in_total', torch.zeros(()))

    def forward(x: Tensor, y: Tensor, mode: str = 'tensor') -> dict[str, Tensor]:
        losses = plain(x, y, mode)
        model.seen_in_total += 1
        if runner.iter + 1 in bad:
            losses['loss'] = losses['loss'] * value
        return dict(losses, loss_fine=torch.ones(()), acc=torch.tensor(float('nan')))

    model.forward = forward


def states(runner: Runner) -> dict[str, Tensor]:
    """Copies of weights, buffers and states of the optimizer."""
    optimizer = runner.optim_wrapper.optimizer
    moments = {f'{n}.{k}': v for n, s in enumerate(optimizer.state.values()) for k, v in s.items()}
    return {name: value.clone() for name, value in {**runner.model.state_dict(), **moments}.items()}


def test_it_stops_before_the_weights_change(make_runner: Callable[..., Runner], tmp_path: Path) -> None:
    runner = make_runner(6, default_hooks=hooks())
    break_losses(runner)
    with pytest.raises(NonFiniteLoss, match=r'^loss is nan in iteration 3, of the images of a batch without names; '):
        runner.train()
    assert sorted(path.name for path in (tmp_path / 'work').glob('iter_*')) == ['iter_1.pth', 'iter_2.pth']
    saved = torch.load(tmp_path / 'work' / 'iter_2.pth', weights_only=True)['state_dict']
    weights = dict(runner.model.named_parameters())
    assert all(torch.equal(weights[name], value) for name, value in saved.items() if name in weights)


def test_finite_runs_are_the_same_with_it(make_runner, assert_same_state, tmp_path: Path) -> None:
    runners = []
    without = {name: hook for name, hook in hooks().items() if name != 'non_finite'}
    for number, default_hooks in enumerate((hooks(), hooks(non_finite='skip'), without)):
        runners.append(make_runner(4, work_dir=str(tmp_path / str(number)), default_hooks=default_hooks))
        runners[-1].train()
    assert_same_state(runners[0], runners[2])
    assert_same_state(runners[1], runners[2])


def test_a_step_is_skipped(make_runner: Callable[..., Runner], tmp_path: Path, caplog) -> None:
    ema = dict(type='EMAHook', momentum=0.5)
    runner = make_runner(5, default_hooks=hooks(non_finite='skip'), custom_hooks=[ema])
    break_losses(runner, value=float('inf'))
    runner.train()
    files = [torch.load(tmp_path / 'work' / f'iter_{step}.pth', weights_only=True) for step in (2, 3, 4, 5)]
    for part in ('state_dict', 'ema_state_dict'):
        second, third, fourth, _ = (file[part] for file in files)
        assert all(torch.equal(third[name], value) for name, value in second.items())
        assert any(not torch.equal(fourth[name], value) for name, value in second.items())
    moments = [[state['step'].item() for state in file['optimizer']['state'].values()] for file in files]
    assert moments == [[2.0] * 4, [2.0] * 4, [3.0] * 4, [4.0] * 4]
    assert runner.model.seen_in_total == 4
    assert runner.message_hub.runtime_info['skipped_steps'] == 1
    assert runner.message_hub.runtime_info['skipped_steps_in_a_row'] == 0
    assert all(value.isfinite().all() for value in states(runner).values())


def test_gradients_alone_are_skipped_too(make_runner: Callable[..., Runner]) -> None:
    runner = make_runner(2, default_hooks=hooks(non_finite='skip'))
    runner.model.head.weight.register_hook(lambda grad: grad * float('inf'))
    before = [weight.clone() for weight in runner.model.parameters()]
    runner.train()
    assert all(map(torch.equal, before, runner.model.parameters()))
    assert runner.message_hub.runtime_info['skipped_steps'] == 2


def test_an_accumulated_step_is_skipped_whole(make_runner: Callable[..., Runner], tmp_path: Path) -> None:
    wrapper = dict(type='OptimWrapper', accumulative_counts=2, optimizer=dict(type='Adam', lr=0.05))
    runner = make_runner(6, optim_wrapper=wrapper, default_hooks=hooks(non_finite='skip'))
    break_losses(runner)
    runner.train()
    files = [torch.load(tmp_path / 'work' / f'iter_{n}.pth', weights_only=True)['state_dict'] for n in (2, 4, 6)]
    assert all(torch.equal(files[0][name], value) for name, value in files[1].items())
    assert any(not torch.equal(files[0][name], value) for name, value in files[2].items())
    assert runner.model.seen_in_total == 4
    assert all(value.isfinite().all() for value in states(runner).values())


def test_too_many_in_a_row(make_runner: Callable[..., Runner], tmp_path: Path) -> None:
    runner = make_runner(9, default_hooks=hooks(non_finite='skip', max_in_a_row=2))
    break_losses(runner, bad=(2, 4, 5, 6, 7))
    with pytest.raises(NonFiniteLoss, match=r'^3 steps in a row were skipped, the last as loss is nan in iteration 6'):
        runner.train()
    resumed = make_runner(
        9,
        default_hooks=hooks(non_finite='skip', max_in_a_row=2),
        load_from=str(tmp_path / 'work' / 'iter_5.pth'),
        resume=True,
    )
    break_losses(resumed, bad=(6, 7))
    resumed.load_or_resume()
    assert resumed.message_hub.runtime_info['skipped_steps'] == 3
    with pytest.raises(NonFiniteLoss, match='in iteration 6'):
        resumed.train()


@pytest.mark.parametrize('settings', [dict(non_finite='ignore'), dict(max_in_a_row=-1)])
def test_wrong_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        NonFiniteLossHook(**settings)


def test_names_of_images() -> None:
    samples = [SegDataSample(metainfo=dict(img_id=f'a_{number}')) for number in range(10)]
    assert image_names(dict(data_samples=samples)) == ', '.join(f'a_{n}' for n in range(8)) + ' and 2 others'
    pairs = [(SegDataSample(metainfo=dict(img_path='b.jpg')),) * 2]
    assert image_names(dict(data_samples=pairs)) == 'b.jpg'


def test_a_method_names_loss_and_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = make_config('vitpcm', write_data(tmp_path, 'ShapesDataset'), tmp_path / 'work')
    assert cfg.default_hooks.non_finite.type == 'NonFiniteLossHook'
    calls = []

    def broken(self: MultiLabelClsLoss, scores: Tensor, labels: Tensor) -> Tensor:
        calls.append(0)
        return scores.sum() * (float('nan') if len(calls) == 3 else 1)

    monkeypatch.setattr(MultiLabelClsLoss, 'forward', broken)
    with pytest.raises(NonFiniteLoss, match=r'^loss_mce is nan in iteration 3, of the images \w+, \w+'):
        launch.train(cfg)


def _rank(rank: int, make_runner: Callable[..., Runner], work_dir: str, action: str) -> dict[str, Any]:
    wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)
    runner = make_runner(
        5,
        work_dir=work_dir,
        launcher='pytorch',
        cfg=dict(model_wrapper_cfg=wrapper),
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        default_hooks=hooks(non_finite=action),
    )
    break_losses(runner, bad=BAD if rank == 1 else ())
    try:
        runner.train()
    except NonFiniteLoss as stop:
        return dict(stopped=str(stop), iteration=runner.iter)
    return dict(weights=[weight.detach() for weight in runner.model.parameters()], iteration=runner.iter)


@pytest.mark.parametrize('action', ['raise', 'skip'])
def test_all_processes_do_the_same(make_runner: Callable[..., Runner], tmp_path: Path, action: str) -> None:
    (tmp_path / 'group').mkdir()
    first, second = start_ranks(_rank, 2, tmp_path / 'group', make_runner, str(tmp_path / 'work'), action)
    if action == 'raise':
        assert first == second
        assert first['stopped'].startswith('loss is nan in iteration 3 on rank 1, of the images ')
        assert first['iteration'] == 2
        return
    assert first['iteration'] == second['iteration'] == 5
    assert all(map(torch.equal, first['weights'], second['weights']))
    files = [torch.load(tmp_path / 'work' / f'iter_{n}.pth', weights_only=True)['state_dict'] for n in (2, 3, 4)]
    assert all(torch.equal(files[0][name], value) for name, value in files[1].items())
    assert any(not torch.equal(files[0][name], value) for name, value in files[2].items())
