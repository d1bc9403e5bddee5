"""Real processes that are killed or preempted: the job ends at once, says why, and goes on where it was."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

TOY = Path(__file__).parent / 'toy'
LENGTH = 6
SETTINGS = """
_base_ = {base!r}
custom_imports = dict(imports=['mmwsss', 'mmwsss.register_all', 'toy_segmentor', 'fault_hook'])
train_dataloader = dict(sampler=dict(type='ResumableInfiniteSampler'), num_workers={workers}, persistent_workers={many})
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters={length})
default_hooks = dict(
    checkpoint=dict(interval=2),
    iteration_seed=dict(type='IterationSeedHook'),
    preemption=dict(type='PreemptionHook', interval=2),
)
custom_hooks = {hooks!r}
"""


@pytest.fixture
def train(repository: Path, tmp_path: Path):
    """Run a tiny training with a fault, in several processes or without a launcher."""

    def run(name: str, *arguments: str, processes: int = 0, length: int = LENGTH, workers: int = 0, **fault):
        config = tmp_path / f'{name}.py'
        hooks = [dict(type='FaultHook', **fault)] if fault else []
        settings = dict(base=str(TOY / 'toy_config.py'), length=length, workers=workers, many=workers > 0)
        config.write_text(SETTINGS.format(hooks=hooks, **settings))
        tools = repository / 'tools'
        alone, together = [sys.executable, tools / 'train.py', config], [tools / 'dist_train.sh', config, processes]
        command = [*(['bash', *together] if processes else alone), '--work-dir', tmp_path / name, *arguments]
        with socket.socket() as sock:
            sock.bind(('127.0.0.1', 0))
            port = sock.getsockname()[1]
        env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(TOY), os.environ['PYTHONPATH']]), 'PORT': str(port)}
        env |= dict(PATH=f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}', CUDA_VISIBLE_DEVICES='')
        env |= dict(OMP_NUM_THREADS='1', MAX_RESTARTS='1' if 'restart' in name else '0')
        command = list(map(str, command))
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=500)

    return run


def weights(folder: Path, iteration: int) -> dict[str, torch.Tensor]:
    return torch.load(folder / f'iter_{iteration}.pth', weights_only=True)['state_dict']


def assert_same_end(tmp_path: Path, first: str, second: str, iteration: int = LENGTH) -> None:
    found, expected = weights(tmp_path / first, iteration), weights(tmp_path / second, iteration)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_data_loader_that_is_killed(train, tmp_path: Path) -> None:
    done = train('data', workers=1, kind='data', length=200)
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith('error')]
    assert line.startswith('error: a process that loads data has died (DataLoader worker (pid')
    assert 'often for want of memory; start the same command again' in line
    assert 'Traceback' not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(('processes', 'name'), [(0, 'SIGUSR1'), (2, 'SIGTERM'), (2, 'SIGUSR1')])
def test_preempted_and_resumed(train, tmp_path: Path, processes: int, name: str) -> None:
    done = train('work', processes=processes, kind=name, length=10_000)
    assert done.returncode == 75, done.stderr
    assert 'training has stopped after iteration' in done.stderr
    iteration = int((tmp_path / 'work' / 'last_checkpoint').read_text().rpartition('_')[2].removesuffix('.pth'))
    end = iteration + 2
    done = train('work', '--resume', processes=processes, length=end)
    assert done.returncode == 0, done.stderr
    assert f'resumed epoch: 0, iter: {iteration}' in done.stdout + done.stderr
    assert train('straight', processes=processes, length=end).returncode == 0
    assert_same_end(tmp_path, 'work', 'straight', end)


@pytest.mark.slow
def test_a_killed_rank_ends_the_job(train, tmp_path: Path) -> None:
    started = time.monotonic()
    done = train('killed', processes=2, kind='kill', rank=1, length=10_000, seconds=0.1)
    assert done.returncode == 1
    assert time.monotonic() - started < 400
    assert 'error: another process of this job has ended' in done.stderr
    assert 'SIGKILL' in done.stderr


@pytest.mark.slow
def test_a_restarted_job_goes_on(train, tmp_path: Path) -> None:
    assert train('straight', processes=2).returncode == 0
    done = train('restart', '--resume', processes=2, kind='kill', rank=0, at=4)
    assert done.returncode == 0, done.stderr
    assert 'resumed epoch: 0, iter: 2' in done.stdout + done.stderr
    assert_same_end(tmp_path, 'restart', 'straight')
    done = train('restart_without', processes=2)
    assert done.returncode == 2
    assert 'processes that are restarted (MAX_RESTARTS) would not go on; add --resume' in done.stderr
