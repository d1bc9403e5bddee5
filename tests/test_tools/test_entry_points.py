import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

TOY = Path(__file__).parent / 'toy'
CONFIG = str(TOY / 'toy_config.py')
SCRIPTS = ['dist_train.sh', 'dist_test.sh', 'dist_run.sh', 'slurm_train.sh', 'slurm_test.sh', 'slurm_run.sh']


def environment(**more):
    paths = [str(TOY), os.environ['PYTHONPATH']]
    # torchrun is looked up on PATH and lies beside the interpreter.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(paths), 'PATH': path, 'OMP_NUM_THREADS': '1'}
    return {**env, 'CUDA_VISIBLE_DEVICES': '', **more}


def run(command, cwd, **more):
    command = [str(part) for part in command]
    return subprocess.run(
        command, cwd=cwd, env=environment(**more), capture_output=True, text=True, check=False, timeout=180
    )


def run_tool(tool, *arguments, cwd, **more):
    repository = Path(__file__).resolve().parents[2]
    return run([sys.executable, repository / 'tools' / tool, *arguments], cwd, **more)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Folder a training with the default work dir was started from."""
    folder = tmp_path_factory.mktemp('trained')
    done = run_tool('train.py', CONFIG, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def run_in_process(load_tool, run_main, monkeypatch, capsys):
    """Run a tool that is expected to stop with an error; returns its stderr."""
    monkeypatch.syspath_prepend(str(TOY))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')

    def run(name, *arguments):
        assert run_main(load_tool(name), *arguments) == 2
        return capsys.readouterr().err

    return run


def test_train_uses_config_name_as_work_dir(trained):
    work_dir = trained / 'work_dirs' / 'toy_config'
    assert (work_dir / 'iter_2.pth').is_file()
    assert (work_dir / 'last_checkpoint').read_text().strip().endswith('iter_2.pth')


def test_resume_continues_from_the_latest_checkpoint(trained, tmp_path):
    shutil.copytree(trained / 'work_dirs' / 'toy_config', tmp_path / 'moved')
    options = ['--cfg-options', 'train_cfg.max_iters=3']
    done = run_tool('train.py', CONFIG, '--work-dir', 'moved', '--resume', *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'resumed epoch: 0, iter: 2' in done.stdout + done.stderr
    assert (tmp_path / 'moved' / 'iter_3.pth').is_file()
    state = torch.load(tmp_path / 'moved' / 'iter_3.pth', weights_only=True)
    assert state['meta']['iter'] == 3


def test_test_writes_scores_and_masks(trained, tmp_path):
    work_dir = trained / 'work_dirs' / 'toy_config'
    done = run_tool(
        'test.py', CONFIG, work_dir, '--work-dir', tmp_path / 'eval', '--out', tmp_path / 'png', cwd=trained
    )
    assert done.returncode == 0, done.stderr
    (record_file,) = (tmp_path / 'eval').rglob('metrics.json')
    assert list(record_file.parent.glob('*.log'))
    record = json.loads(record_file.read_text())
    assert {'seg_mIoU', 'maps_mIoU', 'mAP'} <= set(record['scores'])
    assert set(record['per_class']['seg_IoU']) == {'background', 'left', 'right'}
    assert record['checkpoint'].endswith('iter_2.pth')
    assert record['seed'] == 3
    masks = sorted((tmp_path / 'png').iterdir())
    assert [mask.name for mask in masks] == [f'image_{index}.png' for index in range(5)]
    assert Image.open(masks[0]).size == (8, 8)


def test_two_processes_without_gpu(tmp_path, repository):
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        port = sock.getsockname()[1]
    command = [repository / 'tools' / 'dist_train.sh', CONFIG, 2, '--work-dir', tmp_path / 'work dir']
    done = run(command, tmp_path, PORT=str(port))
    assert done.returncode == 0, done.stderr
    assert 'Distributed training: True' in done.stdout + done.stderr
    assert (tmp_path / 'work dir' / 'iter_2.pth').is_file()


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        ('train', ['no_such_config.py'], 'config no_such_config.py does not exist'),
        ('train', [TOY / 'toy_confg.py'], 'nearest: toy_config.py'),
        ('train', [CONFIG, '--cfg-options', 'train_confg.max_iters=3'], 'nearest: train_cfg'),
        ('train', [CONFIG, '--cfg-options', 'train_cfg.max_iters'], '"train_cfg.max_iters" is not of the form'),
        ('train', [CONFIG, '--cfg-options', 'train_cfg=[(1,2]'], 'cannot read train_cfg=[(1,2]'),
        ('train', [CONFIG, '--cfg-options', 'default_scope.name=3'], 'cannot apply --cfg-options'),
        ('train', [CONFIG, '--resume', 'gone.pth'], '--resume: gone.pth does not exist'),
        ('train', [CONFIG, '--cfg-options', 'load_from=gone.pth'], 'load_from: gone.pth does not exist'),
        (
            'train',
            [CONFIG, '--cfg-options', 'model.init_cfg.type=Pretrained', 'model.init_cfg.checkpoint=gone.pth'],
            'model.init_cfg.checkpoint: gone.pth does not exist; name a file of weights, or set model.init_cfg=None',
        ),
        ('train', [CONFIG, '--frobnicate'], '--frobnicate'),
        ('test', [CONFIG], 'checkpoint'),
        ('test', [CONFIG, 'gone.pth'], 'checkpoint: gone.pth does not exist'),
        ('test', [CONFIG, TOY], 'has no last_checkpoint'),
        ('test', [CONFIG, CONFIG, '--tta'], '--tta needs tta_model'),
        ('test', [CONFIG, CONFIG, '--show-dir', 'x'], 'need default_hooks.visualization'),
        ('misc/print_config', ['gone.py'], 'config gone.py does not exist'),
    ],
)
def test_mistakes_end_with_one_line(run_in_process, tmp_path, monkeypatch, tool, arguments, message):
    monkeypatch.chdir(tmp_path)
    error = run_in_process(tool, *arguments)
    assert error.startswith('error: ')
    assert message in error
    assert error.count('\n') == 1
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_checkpoint(run_in_process, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = run_in_process('test', CONFIG, CONFIG)
    assert 'error: ' in error
    assert 'toy_config.py cannot be read as a checkpoint' in error


@pytest.mark.skipif(torch.cuda.is_available(), reason='mixed precision works here')
def test_mixed_precision_without_gpu(run_in_process, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = run_in_process('train', CONFIG, '--cfg-options', 'optim_wrapper.type=AmpOptimWrapper')
    assert 'needs a GPU, none was found; set optim_wrapper.type=BFloat16OptimWrapper' in error
    done = run_tool('train.py', CONFIG, '--amp', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (dumped,) = (tmp_path / 'work_dirs' / 'toy_config').glob('*.py')
    assert 'BFloat16OptimWrapper' in dumped.read_text()


def test_last_checkpoint_that_is_gone(run_in_process, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('last_checkpoint').write_text('/elsewhere/iter_9.pth')
    assert 'names /elsewhere/iter_9.pth, which does not exist' in run_in_process(
        'train', CONFIG, '--work-dir', '.', '--resume'
    )


def test_print_config_shows_overrides(tmp_path):
    done = run_tool('misc/print_config.py', CONFIG, '--cfg-options', 'train_cfg.max_iters=77', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'max_iters=77' in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.fixture
def stubs(tmp_path):
    """Folder with a torchrun and an srun that print their arguments, one a line."""
    for name in ('torchrun', 'srun'):
        stub = tmp_path / 'bin' / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
        stub.chmod(0o755)
    return tmp_path / 'bin'


def arguments_of(script, repository, stubs, *arguments, **env):
    path = f'{stubs}{os.pathsep}{os.environ["PATH"]}'
    done = run([repository / 'tools' / script, *arguments], stubs, PATH=path, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_dist_scripts_pass_arguments(repository, stubs):
    env = {'NNODES': '2', 'NODE_RANK': '1', 'MASTER_ADDR': '10.0.0.1', 'PORT': '1234'}
    seen = arguments_of('dist_train.sh', repository, stubs, 'a b.py', 8, '--work-dir', 'c d', **env)
    assert {'--nnodes=2', '--node_rank=1', '--master_addr=10.0.0.1', '--master_port=1234'} < set(seen)
    assert '--nproc_per_node=8' in seen
    assert seen[-6:] == [str(repository / 'tools/train.py'), 'a b.py', '--work-dir', 'c d', '--launcher', 'pytorch']
    seen = arguments_of('dist_test.sh', repository, stubs, 'a.py', 'b c.pth', 2, '--tta')
    assert seen[-6:] == [str(repository / 'tools/test.py'), 'a.py', 'b c.pth', '--tta', '--launcher', 'pytorch']
    seen = arguments_of('dist_run.sh', repository, stubs, 2, 'generate_pseudo_labels.py', 'a.py')
    assert seen[-4:] == [str(repository / 'tools/generate_pseudo_labels.py'), 'a.py', '--launcher', 'pytorch']


def test_slurm_scripts_pass_arguments(repository, stubs):
    seen = arguments_of(
        'slurm_train.sh', repository, stubs, 'gpu', 'job x', 'a.py', '--amp', GPUS='2', SRUN_ARGS='-q x'
    )
    assert seen[:3] == ['-p', 'gpu', '--job-name=job x']
    assert {'--gres=gpu:2', '--ntasks=2', '--ntasks-per-node=2', '--cpus-per-task=5'} < set(seen)
    assert seen[seen.index('-q') + 1] == 'x'
    assert seen[-5:] == [str(repository / 'tools/train.py'), '--launcher', 'slurm', 'a.py', '--amp']
    seen = arguments_of('slurm_test.sh', repository, stubs, 'gpu', 'job', 'a.py', 'b c.pth')
    assert seen[-5:] == [str(repository / 'tools/test.py'), '--launcher', 'slurm', 'a.py', 'b c.pth']
    seen = arguments_of('slurm_run.sh', repository, stubs, 'gpu', 'job', 'generate_pseudo_labels.py', 'a.py', '--maps')
    assert seen[:3] == ['-p', 'gpu', '--job-name=job']
    tool = str(repository / 'tools/generate_pseudo_labels.py')
    assert seen[-7:] == ['python', '-u', tool, '--launcher', 'slurm', 'a.py', '--maps']


@pytest.mark.parametrize('script', SCRIPTS)
def test_scripts_say_what_is_missing(script, repository, tmp_path):
    done = run([repository / 'tools' / script, 'only-one'], tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith('usage: ')


@pytest.mark.parametrize(('script', 'arguments'), [('dist_run.sh', [2]), ('slurm_run.sh', ['gpu', 'job'])])
def test_a_tool_that_is_gone_is_named(repository, tmp_path, script, arguments):
    done = run([repository / 'tools' / script, *arguments, 'gone.py'], tmp_path)
    assert done.returncode == 2
    assert done.stderr == f'error: no tool gone.py in {repository / "tools"}\n'


@pytest.mark.parametrize(('rank', 'start'), [('0', 'error: wrong'), ('3', 'error on rank 3: wrong')])
def test_every_process_says_its_mistake(monkeypatch, capsys, rank, start):
    from mmwsss.apis import launch

    def main():
        raise launch.UsageError('wrong')

    monkeypatch.setenv('RANK', rank)
    with pytest.raises(SystemExit):
        launch.run_cli(main)
    assert capsys.readouterr().err.startswith(start)
