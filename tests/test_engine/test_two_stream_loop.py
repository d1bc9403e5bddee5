"""Validation of both networks of a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Dataset

from mmwsss.apis.testing import noted_stream

NAME = 'pseudo_mIoU+tags'


class Scripted(BaseModel):
    """Answers every validation image with a number that was set for the iteration and the stream."""

    def __init__(self, script: dict[str, Sequence[float]], stream: str = 'assignment') -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.assignment, self.online = nn.Identity(), nn.Identity()
        self.script = script
        self.stream = stream
        self.trained = 0
        self.asked: list[str] = []

    def forward(self, x: Tensor, y: Tensor, mode: str = 'tensor') -> dict[str, Tensor] | list[dict]:
        if mode != 'predict':
            self.trained += 1
            return dict(loss=(self.layer(x) - y).square().mean())
        self.asked.append(self.stream)
        assert not self.training
        return [dict(score=self.script[self.stream][self.trained - 1]) for _ in x]


class Numbers(Dataset):
    """Seven validation items."""

    metainfo = {'classes': ('background', 'thing')}

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return dict(x=torch.full((4,), float(index)), y=torch.zeros(1))


class Mean(BaseMetric):
    """Mean of the answers, and their number."""

    def process(self, data_batch, data_samples) -> None:
        self.results.extend(sample['score'] for sample in data_samples)

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {NAME: sum(results) / len(results), 'count': len(results)}


class Watcher(Hook):
    """Notes the hook calls around validation."""

    def __init__(self) -> None:
        self.calls, self.scores = [], []

    def before_val(self, runner) -> None:
        self.calls.append('before_val')

    def before_val_epoch(self, runner) -> None:
        self.calls.append('before_val_epoch')

    def after_val_epoch(self, runner, metrics=None) -> None:
        self.calls.append(f'after_val_epoch, stream {runner.model.stream}')
        self.scores.append(dict(metrics))

    def after_val(self, runner) -> None:
        self.calls.append('after_val')


@pytest.fixture
def make_val_runner(make_runner):
    """A runner that validates after every iteration."""

    def make(max_iters: int, val_cfg: dict | None = None, **settings) -> Runner:
        loader = dict(
            batch_size=3,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=Numbers(),
            collate_fn=dict(type='default_collate'),
        )
        return make_runner(
            max_iters,
            train_cfg=dict(type='ResumableIterBasedTrainLoop', max_iters=max_iters, val_interval=1),
            val_cfg=dict(type='TwoStreamValLoop', **(val_cfg or {})),
            val_dataloader=loader,
            val_evaluator=Evaluator([Mean()]),
            **settings,
        )

    return make


def test_both_streams_are_scored_and_the_configured_one_keeps_its_names(make_val_runner) -> None:
    watcher = Watcher()
    model = Scripted(dict(assignment=[10.0, 30.0], online=[20.0, 25.0]))
    runner = make_val_runner(2, model=model, custom_hooks=[watcher])
    runner.train()
    assert watcher.scores == [
        {NAME: 10.0, 'count': 7, f'online/{NAME}': 20.0, 'online/count': 7, f'best_stream/{NAME}': 20.0},
        {NAME: 30.0, 'count': 7, f'online/{NAME}': 25.0, 'online/count': 7, f'best_stream/{NAME}': 30.0},
    ]
    once = ['before_val', 'before_val_epoch', 'after_val_epoch, stream assignment', 'after_val']
    assert watcher.calls == once * 2
    assert model.asked == (['assignment'] * 3 + ['online'] * 3) * 2
    assert runner.message_hub.get_info('best_stream') == 'assignment'


def test_configured_online_stream_and_other_names(make_val_runner) -> None:
    model = Scripted(dict(assignment=[10.0], online=[20.0]), stream='online')
    runner = make_val_runner(1, model=model, val_cfg=dict(streams=('online', 'assignment'), select=['count', NAME]))
    runner.train()
    scores = {f'assignment/{NAME}': 10.0, 'assignment/count': 7, NAME: 20.0, 'count': 7}
    model.trained = 1
    assert runner.val_loop.run() == {**scores, f'best_stream/{NAME}': 20.0, 'best_stream/count': 7}
    assert runner.message_hub.get_info('best_stream') == 'online', 'the first of equal ones'
    assert model.stream == 'online'


def test_the_best_checkpoint_names_its_stream(make_val_runner, tmp_path: Path) -> None:
    checkpoint = dict(
        type='CheckpointHook', by_epoch=False, interval=1, save_best=f'best_stream/{NAME}', rule='greater'
    )
    model = Scripted(dict(assignment=[30.0, 35.0, 32.0], online=[20.0, 40.0, 10.0]))
    runner = make_val_runner(3, model=model, default_hooks=dict(logger=None, timer=None, checkpoint=checkpoint))
    runner.train()
    folder = tmp_path / 'work'
    assert [path.name for path in folder.glob('best_*')] == [f'best_best_stream_{NAME}_iter_2.pth']
    hub = torch.load(next(folder.glob('best_*')), weights_only=False)['message_hub']
    assert hub['runtime_info']['best_stream'] == 'online'
    assert hub['runtime_info']['best_score'] == 40.0
    assert runner.message_hub.get_info('best_stream') == 'assignment', 'of the last validation'
    assert (folder / 'iter_3.pth').exists()


def test_every_score_notes_and_logs_its_own_stream(make_val_runner, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Mean, 'compute_metrics', lambda self, results: {NAME: results[0], 'a/b': -results[0]})
    names = [f'best_stream/{NAME}', 'best_stream/a/b']
    checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=1, save_best=names, rule='greater')
    model = Scripted(dict(assignment=[30.0], online=[20.0]))
    hooks = dict(logger=None, timer=None, checkpoint=checkpoint)
    runner = make_val_runner(1, model=model, val_cfg=dict(select=[NAME, 'a/b']), default_hooks=hooks)
    lines = []
    monkeypatch.setattr(runner.logger, 'info', lines.append)
    runner.train()
    assert [line for line in lines if str(line).startswith('best_stream')] == [
        f'best_stream/{NAME}: assignment',
        'best_stream/a/b: online',
    ]
    found = {}
    for path in (tmp_path / 'work').glob('best_*'):
        content = torch.load(path, weights_only=False)
        notes = content['message_hub']['runtime_info']
        assert [notes[key] for key in ('best_stream', *names)] == ['assignment', 'assignment', 'online']
        found[path.name] = noted_stream(content, str(path))
    assert found == {
        f'best_best_stream_{NAME}_iter_1.pth': 'assignment',
        'best_best_stream_a_b_iter_1.pth': 'online',
    }
    assert noted_stream(content, 'iter_1.pth') == 'assignment'
    assert noted_stream(dict(state_dict={}), 'best_best_stream_a_b_iter_1.pth') is None


def test_the_stream_is_restored_after_an_error(make_val_runner) -> None:
    model = Scripted(dict(assignment=[1.0], online=[]))
    runner = make_val_runner(1, model=model)
    with pytest.raises(IndexError):
        runner.train()
    assert model.asked[-1] == 'online'
    assert model.stream == 'assignment'


def test_unknown_scores_are_refused(make_val_runner) -> None:
    model = Scripted(dict(assignment=[1.0], online=[1.0]))
    runner = make_val_runner(1, model=model, val_cfg=dict(select='seg_mIoU'))
    with pytest.raises(KeyError, match=r"select names 'seg_mIoU', the scores of assignment are pseudo_mIoU\+tags, co"):
        runner.train()


def test_models_of_one_stream_are_refused(make_val_runner) -> None:
    with pytest.raises(TypeError, match='needs a model with an attribute stream, Net has none'):
        make_val_runner(1).train()


def test_settings_are_checked_before_training(make_val_runner) -> None:
    for settings, message in (
        (dict(streams=('assignment', 'teacher')), r"streams names 'teacher', Scripted has no such network"),
        (dict(select=[]), r'streams and select in val_cfg need a name each'),
    ):
        model = Scripted(dict(assignment=[1.0], online=[1.0]))
        with pytest.raises(ValueError, match=message):
            make_val_runner(1, model=model, val_cfg=settings).train()
        assert model.trained == 0
