"""A checkpoint is whole or not there, and the one before it stays until it is."""

from __future__ import annotations

import errno
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner

from mmwsss.apis.checkpoints import check_resumable, latest_checkpoint, resumable_checkpoint
from mmwsss.engine.hooks import CheckpointHook
from mmwsss.registry import HOOKS


def hooks(**settings) -> dict:
    checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=1, **settings)
    return dict(
        logger=None, timer=None, param_scheduler=None, checkpoint=checkpoint, seed=dict(type='IterationSeedHook')
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file() and path.suffix != '.py')


@contextmanager
def full_disk(text: str) -> Iterator[None]:
    """Let the disk run full in the middle of a file whose name holds ``text``."""
    write = Path.write_bytes

    def write_half(path: Path, content: bytes) -> int:
        if text not in path.name:
            return write(path, content)
        write(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, 'No space left on device')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, 'write_bytes', write_half)
        with pytest.raises(OSError, match='No space left on device') as caught:
            yield
    assert text in caught.value.filename


def test_it_takes_the_place_of_mmengine(make_runner, tmp_path: Path) -> None:
    assert HOOKS.get('CheckpointHook') is CheckpointHook
    make_runner(5, default_hooks=hooks(max_keep_ckpts=2)).train()
    assert names(tmp_path / 'work') == ['iter_4.pth', 'iter_5.pth', 'last_checkpoint']
    for name in ('iter_4.pth', 'iter_5.pth'):
        check_resumable(str(tmp_path / 'work' / name))
    assert latest_checkpoint(str(tmp_path / 'work')) == str(tmp_path / 'work' / 'iter_5.pth')


def test_files_of_one_name_replace_each_other(make_runner, tmp_path: Path) -> None:
    settings = dict(filename_tmpl='newest.pth', max_keep_ckpts=2, save_best='score', rule='greater')
    runner = make_runner(5, default_hooks=hooks(**settings))
    runner.train()
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    for score in (0.5, 0.6):
        hook.after_val_epoch(runner, dict(score=score))
    assert names(tmp_path / 'work') == ['best_score_newest.pth', 'last_checkpoint', 'newest.pth']
    check_resumable(latest_checkpoint(str(tmp_path / 'work')))


def test_processes_that_do_not_see_the_checkpoint(make_runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mmwsss.engine.hooks.checkpoint_hook.all_gather_object', lambda start: [start, 4])
    with pytest.raises(RuntimeError, match=r'different iterations \(0, 4 by rank\); all nodes have to see the checkp'):
        make_runner(5, default_hooks=hooks()).train()


def test_an_older_one_elsewhere(make_runner, tmp_path: Path) -> None:
    make_runner(3, default_hooks=hooks(out_dir=str(tmp_path / 'disk'))).train()
    elsewhere = tmp_path / 'disk' / 'work'
    (elsewhere / 'iter_3.pth').write_bytes(b'')
    assert resumable_checkpoint(str(tmp_path / 'work'), lambda text: None) == str(elsewhere / 'iter_2.pth')


def test_full_disk_keeps_the_previous_one(make_runner, assert_same_state, tmp_path: Path) -> None:
    straight = make_runner(4, work_dir=str(tmp_path / 'straight'))
    straight.train()
    work = tmp_path / 'work'
    settings = dict(default_hooks=hooks(max_keep_ckpts=1))
    with full_disk('iter_3.pth'):
        make_runner(4, **settings).train()
    assert names(work) == ['iter_2.pth', 'last_checkpoint']
    (work / '.iter_3.pth.7-7.partial').write_bytes(b'what a killed process leaves')
    resumed = make_runner(4, load_from=resumable_checkpoint(str(work), pytest.fail), resume=True, **settings)
    resumed.train()
    assert_same_state(resumed, straight)
    assert names(work) == ['iter_4.pth', 'last_checkpoint']


def test_the_old_best_one_stays_until_there_is_a_new_one(make_runner, tmp_path: Path) -> None:
    runner = make_runner(2, default_hooks=hooks(save_best='score', rule='greater'))
    runner.train()
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    hook.after_val_epoch(runner, dict(score=0.5))
    first = Path(hook.best_ckpt_path)
    assert first.is_file()
    runner.train_loop._iter = 3
    with full_disk('best_score_iter_3'):
        hook.after_val_epoch(runner, dict(score=0.6))
    assert first.is_file()
    hook.best_ckpt_path = str(first)
    hook.after_val_epoch(runner, dict(score=0.7))
    assert [path.name for path in (tmp_path / 'work').glob('best_*')] == ['best_score_iter_3.pth']


def test_code_in_a_checkpoint_is_not_run(make_runner, tmp_path: Path) -> None:
    make_runner(1).train()
    path, trap = tmp_path / 'work' / 'iter_1.pth', tmp_path / 'trap'
    content = torch.load(path, weights_only=True)
    content['meta']['config'] = f'import pathlib\npathlib.Path({str(trap)!r}).touch()\n'
    torch.save(content, path)
    runner = make_runner(2, load_from=str(path), resume=True)
    runner.train()
    assert runner.iter == 2
    assert not trap.exists()


def test_gradients_of_an_unfinished_step(make_runner, assert_same_state, tmp_path: Path) -> None:
    wrapper = dict(type='OptimWrapper', accumulative_counts=2, optimizer=dict(type='Adam', lr=0.05))
    straight = make_runner(4, work_dir=str(tmp_path / 'straight'), optim_wrapper=dict(wrapper))
    straight.train()
    path = tmp_path / 'straight' / 'iter_3.pth'
    assert 'gradients' in torch.load(path, weights_only=True)
    assert 'gradients' not in torch.load(path.with_name('iter_2.pth'), weights_only=True)
    resumed = make_runner(4, load_from=str(path), resume=True, optim_wrapper=dict(wrapper))
    resumed.train()
    assert_same_state(resumed, straight)


@pytest.mark.parametrize('damage', ['cut', 'flipped', 'empty', 'gone'])
def test_a_damaged_newest_one_is_left_out(make_runner, tmp_path: Path, damage: str) -> None:
    make_runner(3).train()
    work = tmp_path / 'work'
    newest = work / 'iter_3.pth'
    content = bytearray(newest.read_bytes())
    if damage == 'flipped':
        with zipfile.ZipFile(newest) as archive:
            entry = next(info for info in archive.infolist() if '/data/' in info.filename)
            content[content.index(archive.read(entry)) + 1] ^= 1
    newest.write_bytes(dict(cut=content[: len(content) // 2], flipped=content, empty=b'', gone=b'')[damage])
    if damage == 'gone':
        newest.unlink()
    warnings: list[str] = []
    assert resumable_checkpoint(str(work), warnings.append) == str(work / 'iter_2.pth')
    (warning,) = warnings
    assert str(newest) in warning
    assert str(work / 'iter_2.pth') in warning


def run_early_stopping(make_runner: Callable[..., Runner], iterations: int, scores: list[float], **settings) -> Runner:
    early = dict(type='EarlyStoppingHook', monitor='score', rule='greater', patience=2)
    runner = make_runner(iterations, custom_hooks=[early], **settings)
    runner.train()
    (hook,) = [hook for hook in runner.hooks if type(hook).__name__ == 'EarlyStoppingHook']
    for score in scores:
        hook.after_val_epoch(runner, dict(score=score))
    return runner


def test_early_stopping_is_resumed(make_runner, tmp_path: Path) -> None:
    runner = run_early_stopping(make_runner, 2, [0.5, 0.4])
    assert not runner.train_loop.stop_training
    runner.save_checkpoint(str(tmp_path), 'half.pth', by_epoch=False, meta=dict(iter=2, epoch=0))
    resumed = run_early_stopping(make_runner, 3, [0.3], load_from=str(tmp_path / 'half.pth'), resume=True)
    assert resumed.train_loop.stop_training, 'two scores below the best one, of before'
    resumed.save_checkpoint(str(tmp_path), 'end.pth', by_epoch=False, meta=dict(iter=3, epoch=0))
    again = run_early_stopping(make_runner, 5, [], load_from=str(tmp_path / 'end.pth'), resume=True)
    assert again.iter == 3, 'it was over'
