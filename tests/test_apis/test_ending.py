"""Status and last line of the tools."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from mmwsss.apis import launch
from mmwsss.apis.ending import run_cli
from mmwsss.apis.errors import FAILED, INTERRUPTED, NO_SPACE, USAGE, UsageError
from mmwsss.apis.pipeline import Pipeline, Stage
from mmwsss.engine.preemption import PREEMPTED, Preempted
from mmwsss.utils.files import locked, replacing


def ending_of(error: BaseException) -> int:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        run_cli(main)
    return stop.value.code


@pytest.mark.parametrize(
    ('error', 'status', 'text'),
    [
        (UsageError('no such thing'), USAGE, 'error: no such thing'),
        (KeyboardInterrupt(), INTERRUPTED, 'interrupted'),
        (Preempted('SIGTERM: training has stopped'), PREEMPTED, 'SIGTERM: training has stopped'),
        (OSError(errno.ENOSPC, 'full', 'a.pth'), NO_SPACE, 'error: no space left on the disk for a.pth; files of'),
        (OSError(errno.EDQUOT, 'quota'), NO_SPACE, 'error: no space left on the disk; files of before are whole'),
        (
            RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed. '),
            FAILED,
            'error: a process that loads data has died (DataLoader worker (pid 7) is killed by signal: Killed), often',
        ),
        (
            RuntimeError('[gloo/tcp.cc:534] Connection closed by peer [127.0.0.1]:1'),
            FAILED,
            'error: another process of this job has ended',
        ),
    ],
)
def test_one_line(error, status, text, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MMWSSS_STATUS_FILE', str(tmp_path / 'status'))
    assert ending_of(error) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(text)
    assert (tmp_path / 'status').exists() == (status != FAILED)
    if status != FAILED:
        assert (tmp_path / 'status').read_text() == str(status)


@pytest.mark.parametrize('error', [RuntimeError('shapes do not fit'), OSError(errno.EACCES, 'denied'), KeyError('a')])
def test_other_errors_keep_their_traceback(error) -> None:
    with pytest.raises(type(error)):
        ending_of(error)


def _print_much(output: int, errors: int, buffered: bool) -> None:
    os.dup2(output, 1)
    os.dup2(errors, 2)
    sys.stdout = sys.__stdout__ = open(1, 'w', buffering=-1 if buffered else 1)  # noqa: SIM115 (open to the very end)
    sys.stderr = open(2, 'w', buffering=1)  # noqa: SIM115
    run_cli(lambda: print('a line\n' * 10))


@pytest.mark.parametrize('buffered', [True, False])
def test_a_reader_that_has_left_is_no_error(buffered, tmp_path: Path) -> None:
    reader, output = os.pipe()
    context = multiprocessing.get_context('fork')
    with open(tmp_path / 'errors', 'w') as errors:
        writer = context.Process(target=_print_much, args=(output, errors.fileno(), buffered))
        os.close(reader)
        writer.start()
        os.close(output)
        writer.join(60)
    assert writer.exitcode == FAILED
    assert (tmp_path / 'errors').read_text() == ''


def test_a_closed_output_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('sys.stdout', None)
    monkeypatch.setattr('sys.__stdout__', None)
    run_cli(lambda: None)
    with pytest.raises(BrokenPipeError):
        ending_of(BrokenPipeError())


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match='full') as caught, replacing(tmp_path / 'a.png'):
        raise OSError(errno.ENOSPC, 'full')
    assert caught.value.filename == str(tmp_path / 'a.png')


def test_two_trainings_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = str(tmp_path / 'work')
    with launch.held_work_dir(work):
        with (
            pytest.raises(UsageError, match=rf'work is in use, process {os.getpid()} on \S+ trains there; wait'),
            launch.held_work_dir(work),
        ):
            pass
        monkeypatch.setenv('RANK', '1')
        with launch.held_work_dir(work):  # the first process holds it for all
            pass
        monkeypatch.delenv('RANK')
    with launch.held_work_dir(work):
        pass


def test_a_full_disk_is_no_mistake_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_, **__):
        raise OSError(errno.ENOSPC, 'full')

    monkeypatch.setattr(Path, 'mkdir', full)
    with pytest.raises(OSError, match='full'), launch.held_work_dir(str(tmp_path / 'work')):
        pass


def _hold(path: Path, children: Connection) -> None:
    torch.set_num_threads(1)
    with locked(path):
        if child := os.fork():
            children.send(child)
        time.sleep(600)


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    """Even where a process that it has started to load data lives on."""
    path, context = tmp_path / 'lock', multiprocessing.get_context('fork')
    ours, theirs = context.Pipe()
    holder = context.Process(target=_hold, args=(path, theirs))
    holder.start()
    child = ours.recv()
    try:
        with pytest.raises(BlockingIOError, match=f'process {holder.pid} on '), locked(path):
            pass
        holder.kill()
        holder.join()
        os.kill(child, 0)
        with locked(path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_pipeline_hands_signals_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that ends well after a signal is done; one that stops goes on in the next run."""
    config = tmp_path / 'a.py'
    config.write_text('a = 1\n')
    stage = Stage('train', 'train', str(config))
    body = 'import os, signal, sys, time\n'
    body += f'signal.signal(signal.SIGUSR1, lambda *_: sys.exit({PREEMPTED}))\n'
    body += 'os.kill(os.getppid(), signal.SIGUSR1)\ntime.sleep(60)\n'
    pipeline = Pipeline([stage], tmp_path / 'work')
    monkeypatch.setattr(pipeline, 'command', lambda stage: [sys.executable, '-c', body])
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(Preempted, match='SIGUSR1: stage train has stopped, it goes on in the next run'):
        pipeline.run([stage], announce=lambda line: None)
    assert signal.getsignal(signal.SIGUSR1) == before
    assert pipeline.record()['done'] == {}


def test_no_stage_begins_after_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / 'a.py'
    config.write_text('a = 1\n')
    stages = [Stage(name, 'train', str(config)) for name in ('first', 'second')]
    body = 'import os, signal, time\nsignal.signal(signal.SIGUSR1, lambda *_: os._exit(0))\n'
    body += 'os.kill(os.getppid(), signal.SIGUSR1)\ntime.sleep(60)\n'
    pipeline = Pipeline(stages, tmp_path / 'work')
    monkeypatch.setattr(pipeline, 'command', lambda stage: [sys.executable, '-c', body])
    with pytest.raises(Preempted, match='SIGUSR1: stage first is done, the next one begins in the next run'):
        pipeline.run(stages, announce=lambda line: None)
    assert list(pipeline.record()['done']) == ['first']
