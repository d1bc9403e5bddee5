import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_configs import CONFIGS, tiny_config, write_data

from mmwsss.apis import commands, launch
from mmwsss.apis.commands import COMMANDS, for_installation
from mmwsss.cli import main as command
from mmwsss.models.segmentors.weak_segmentor import WeakSegmentor
from mmwsss.registry import MODELS
from mmwsss.version import __version__


@pytest.fixture
def mmwsss(monkeypatch, capsys):
    """Run the command in this process; returns its status, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['mmwsss', *map(str, arguments)])
        monkeypatch.setattr(sys, 'path', [*sys.path])
        status = 0
        try:
            command.main()
        except SystemExit as stop:
            status = stop.code
        found = capsys.readouterr()
        return status, found.out, found.err

    return run


def test_help_names_every_command(mmwsss):
    status, out, _ = mmwsss()
    assert status == 0
    for name in ('predict', 'train', 'test', 'pseudo-labels', 'report', 'list', 'shapes', 'export', 'tool', 'where'):
        assert f'\n  {name} ' in out
    assert mmwsss('--version')[1].strip() == __version__


def test_every_tool_is_there(mmwsss, repository):
    assert mmwsss('where')[1].strip() == str(repository)
    assert all((repository / 'tools' / f'{path}.py').is_file() for path in COMMANDS.values())
    assert set(COMMANDS) == {*command.TOOLS, 'report'}


def test_texts_name_the_commands_of_the_installation(monkeypatch, tmp_path):
    text = (
        'run: MMWSSS_DATA_ROOT=a python tools/train.py configs/vitpcm_own.py --work-dir b\n'
        f'python tools/analysis_tools/threshold_sweep.py {tmp_path}/.mim/configs/apc/apc_voc.py a/configs/b.pth c.py\n'
        'python tools/test.py configs/mine.py a/configs/vitpcm_own.py'
    )
    assert for_installation(text) == text
    for name in ('vitpcm_own', 'apc/apc_voc', 'vitpcm_voc'):
        path = tmp_path / '.mim' / 'configs' / f'{name}.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.setattr(commands, 'resource_root', lambda: tmp_path / '.mim')
    assert for_installation(text) == (
        'run: MMWSSS_DATA_ROOT=a mmwsss train vitpcm_own --work-dir b\n'
        'mmwsss tool analysis_tools/threshold_sweep apc/apc_voc a/configs/b.pth c.py\n'
        'mmwsss test configs/mine.py a/configs/vitpcm_own.py'
    )
    monkeypatch.setattr('sys.argv', ['mmwsss tool model_converters/vit_to_mmwsss'])
    parser = launch.Parser(description='Example: python tools/test.py configs/vitpcm_voc.py')
    assert 'usage: mmwsss tool model_converters/vit_to_mmwsss' in parser.format_help()
    assert 'Example: mmwsss test vitpcm_voc' in parser.format_help()


def test_list(mmwsss):
    _, out, _ = mmwsss('list', 'vitpcm_shapes')
    assert out.split() == ['vitpcm_shapes', 'vitpcm', 'shapes']
    status, _, error = mmwsss('list', 'vitpcm_shapez')
    assert (status, 'nearest: vitpcm_shapes' in error) == (2, True)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['predct'], 'error: mmwsss has no command predct; nearest: predict; commands are '),
        (['train', 'vitpcm_shapez'], 'error: config vitpcm_shapez does not exist; nearest: vitpcm_shapes'),
        (['predict', 'vitpcm_shapes', 'http://localhost/a.jpg'], 'error: no weights: name a checkpoint or a work dir'),
        (['predict', 'vitpcm_shapes'], 'the following arguments are required: IMAGE; see mmwsss predict --help'),
        (['tool', 'misc/print_confg'], 'nearest: misc/print_config'),
        (['tool'], 'error: mmwsss tool needs the name of one: '),
        (['export', 'vitpcm_shapes', 'gone.pth', '--out', 'x.onnx'], 'error: checkpoint: gone.pth does not exist'),
        (['export', 'vitpcm_shapes', 'gone.pth', '--out', 'x.txt'], 'has to end in .onnx'),
    ],
)
def test_mistakes_are_one_line(mmwsss, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, _, error = mmwsss(*arguments)
    assert status == 2
    assert message in error.splitlines()[-1]
    assert 'Traceback' not in error


def test_tools_run_as_themselves(mmwsss):
    status, out, _ = mmwsss('tool', 'misc/print_config', 'cam_shapes')
    assert status == 0
    assert "type='CAMClassifier'" in out


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The current folder, with a tiny ViT-PCM in tiny.py and weights.pth, and four images of shapes."""
    data_root = write_data(tmp_path, 'ShapesDataset', train=2)
    cfg = tiny_config(CONFIGS / 'vitpcm_shapes.py', data_root, tmp_path / 'work')
    cfg.dump(tmp_path / 'tiny.py')
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, tmp_path / 'weights.pth')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['file', '--tags', 'gone.csv'], '--tags gone.csv: the label file does not exist'),
        (['file', '--out', 'file'], '--out file: no files can be written there (it is a file); name another folder'),
        (['file', '--out', 'file/x'], '--out file/x: no files can be written there (Not a directory)'),
        (['file', 'gone.jpg', '--out', 'a/b'], '1 of 2 images cannot be read (gone.jpg: no such file)'),
        (['.'], 'the folder . has no images'),
        (['file', 'file'], 'file and file are both called file and would overwrite'),
    ],
)
def test_paths_of_predict_are_checked_first(mmwsss, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path('file').write_text('no image')
    status, _, error = mmwsss('predict', 'no_config', *arguments)
    assert status == 2
    assert error.startswith('error: ')
    assert message in error
    assert error.count('\n') == 1
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_predict_that_is_interrupted(mmwsss, tiny, monkeypatch):
    test_step, calls = WeakSegmentor.test_step, []

    def interrupted(model, data):
        calls.append(data)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return test_step(model, data)

    monkeypatch.setattr(WeakSegmentor, 'test_step', interrupted)
    images = 'ShapesDataset/JPEGImages/*.jpg'
    status, _, error = mmwsss('predict', 'tiny.py', images, '--weights', 'weights.pth', '--batch-size', 1)
    assert status == 130
    assert error.splitlines()[-2:] == ['predictions: the files of 2 images are there', 'interrupted']
    assert 'Traceback' not in error
    record = json.loads((tiny / 'predictions' / 'predictions.json').read_text())
    assert len(record['images']) == 2
    assert {f'{name}.png' for name in record['images']} == {
        path.name for path in (tiny / 'predictions' / 'panels').iterdir()
    }


def test_predict(mmwsss, tiny):
    images = ['ShapesDataset/JPEGImages/*.jpg', 'gone.jpg']
    arguments = ['predict', 'tiny.py', *images, '--weights', 'weights.pth', '--device', 'cpu', '--workers', 0]
    status, _, error = mmwsss(*arguments)
    assert (status, '1 of 5 images cannot be read (gone.jpg: no such file)' in error) == (2, True)
    status, out, _ = mmwsss(*arguments, '--skip-corrupt', '--classes', 'striped_disc')
    assert status == 0
    assert 'left out: gone.jpg: no such file' in out
    assert 'predictions: 4 images in ' in out
    assert out.strip().endswith('maps and pseudo masks made with image labels')
    assert len(list((tiny / 'predictions' / 'masks').iterdir())) == 4


@pytest.mark.slow
def test_generate_train_and_predict_from_another_folder(tmp_path):
    def run(*arguments):
        done = subprocess.run(
            [sys.executable, '-m', 'mmwsss', *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run('shapes', '--train', 16, '--val', 2, '--close-ups', 0, '--quiet')
    options = ['model.backbone.init_cfg=None', 'train_dataloader.batch_size=4', 'train_cfg.val_interval=9']
    options += ['train_cfg.max_iters=1', 'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']
    run('train', 'vitpcm_shapes', '--cfg-options', *options)
    images = tmp_path / 'data' / 'shapes' / 'JPEGImages'
    weights = ['--weights', 'work_dirs/vitpcm_shapes']
    told = run('predict', 'vitpcm_shapes', images / 'val_00000.jpg', *weights, '--classes', 'striped_disc')
    assert 'predictions: 1 images in ' in told
    assert told.strip().endswith('maps and pseudo masks made with image labels')
    assert (tmp_path / 'predictions' / 'panels' / 'val_00000.png').is_file()
