"""The best checkpoint of a run that was killed around a validation is that of a run that was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import Runner
from mmengine.runner.loops import BaseLoop

from mmwsss.apis.checkpoints import best_checkpoint, latest_checkpoint
from mmwsss.registry import LOOPS

SCORES = {2: 0.3, 4: 0.5, 6: 0.4}


class Killed(BaseException):
    """In the place of a signal."""


@LOOPS.register_module()
class ScoresValLoop(BaseLoop):
    """Gives the score of the iteration that ``scores`` names, as a validation does."""

    def __init__(self, runner: Runner, dataloader: Any, evaluator: Any, scores: dict, killed_at: int | None) -> None:
        self._runner = runner
        self.scores, self.killed_at = scores, killed_at
        self.validated: list[int] = []

    def run(self) -> dict:
        self.validated.append(self.runner.iter)
        if self.runner.iter == self.killed_at:
            raise Killed
        metrics = dict(score=self.scores[self.runner.iter])
        self.runner.call_hook('after_val_epoch', metrics=metrics)
        return metrics


@pytest.fixture
def make(make_runner: Callable[..., Runner], tmp_path: Path) -> Callable[..., Runner]:
    def build(
        name: str,
        scores: dict = SCORES,
        killed_at: int | None = None,
        save_best: str | None = 'score',
        more: tuple = (),
    ) -> Runner:
        hook = dict(type='CheckpointHook', by_epoch=False, interval=2, save_best=save_best, rule='greater')
        last = latest_checkpoint(str(tmp_path / name))
        return make_runner(
            6,
            work_dir=str(tmp_path / name),
            train_cfg=dict(type='ResumableIterBasedTrainLoop', max_iters=6, val_interval=2),
            val_dataloader=dict(batch_size=1, num_workers=0, dataset=[0]),
            val_evaluator=[],
            val_cfg=dict(type='ScoresValLoop', scores=scores, killed_at=killed_at),
            default_hooks=dict(logger=None, timer=None, param_scheduler=None, checkpoint=hook),
            custom_hooks=[dict(type='IterationSeedHook'), *more],
            load_from=last,
            resume=last is not None,
        )

    return build


def weights(path: str) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)['state_dict']


def assert_same_best(first: Path, second: Path) -> None:
    paths = [best_checkpoint(str(folder)) for folder in (first, second)]
    assert Path(paths[0]).name == Path(paths[1]).name
    found, expected = (weights(path) for path in paths)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize('at', [4, 6])
@pytest.mark.parametrize('place', ['validation', 'best', 'last'])
def test_killed_around_a_validation(make, assert_same_state, tmp_path: Path, place: str, at: int) -> None:
    scores = {**SCORES, at: 0.9}
    straight = make('straight', scores)
    straight.train()
    killed = make('killed', scores, killed_at=at if place == 'validation' else None)
    save, saved = killed.save_checkpoint, []

    def save_until_killed(folder: str, filename: str, *args: Any, **kwargs: Any) -> None:
        name = Path(filename).name
        last = name in saved  # the checkpoint of this iteration, saved again once it knows the best one
        if (place, name) == ('best', f'best_score_iter_{at}.pth') or (place == 'last' and last and f'_{at}.' in name):
            raise Killed
        saved.append(name)
        save(folder, filename, *args, **kwargs)

    killed.save_checkpoint = save_until_killed
    with pytest.raises(Killed):
        killed.train()
    resumed = make('killed', scores)
    resumed.train()
    assert resumed.val_loop.validated == list(range(at, 7, 2))
    assert_same_best(tmp_path / 'killed', tmp_path / 'straight')
    assert best_checkpoint(str(tmp_path / 'killed')).endswith(f'best_score_iter_{at}.pth')
    assert_same_state(resumed, straight)


def test_what_was_validated_is_not_validated_again(make, tmp_path: Path) -> None:
    make('run').train()
    (tmp_path / 'run' / 'last_checkpoint').write_text(str(tmp_path / 'run' / 'iter_4.pth'))
    resumed = make('run')
    resumed.train()
    assert resumed.val_loop.validated == [6]
    assert best_checkpoint(str(tmp_path / 'run')).endswith('best_score_iter_4.pth')
    make('other', save_best=None).train()
    (tmp_path / 'other' / 'last_checkpoint').write_text(str(tmp_path / 'other' / 'iter_4.pth'))
    resumed = make('other', save_best=None)
    resumed.train()
    assert resumed.val_loop.validated == [6], 'without a best checkpoint nothing depends on it'


def test_a_validation_that_was_cut_off_counts_for_early_stopping(make, tmp_path: Path) -> None:
    early = (dict(type='EarlyStoppingHook', monitor='score', rule='greater', patience=1),)
    settings = dict(scores={2: 0.5, 4: 0.4, 6: 0.6}, save_best=None, more=early)
    straight = make('straight', **settings)
    straight.train()
    assert straight.iter == 4
    with pytest.raises(Killed):
        make('killed', killed_at=4, **settings).train()
    resumed = make('killed', **settings)
    resumed.train()
    assert resumed.val_loop.validated == [4]
    assert resumed.iter == 4
