import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.runner import Runner
from PIL import Image
from tiny_configs import CONFIGS, tiny_config, write_data

from mmwsss.registry import MODELS
from mmwsss.utils.files import file_sha256

TOY = Path(__file__).parent / 'toy'
NUM_IMAGES = 16


@pytest.fixture(autouse=True, scope='module')
def scope():
    before = DefaultScope.get_current_instance()
    init_default_scope('mmwsss')
    yield
    init_default_scope(before.scope_name if before else 'mmengine')


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Folder with a tiny config, weights of it and data, and a chain of steps that takes its time."""
    folder = tmp_path_factory.mktemp('generate')
    data_root = write_data(folder, 'WeakVOCDataset', train=NUM_IMAGES)
    cfg = tiny_config(CONFIGS / 'vitpcm_voc12mini.py', data_root, folder / 'work')
    cfg.dump(folder / 'tiny.py')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for name in ('a', 'b'):
        torch.save({'state_dict': model.state_dict()}, folder / f'{name}.pth')
        model.head.classifier.weight.data.mul_(-1)
    steps = "custom_imports = dict(imports=['slow_step'])\n"
    steps += "pseudo_labeler = dict(steps=[dict(type='SlowDecide', seconds={})])\n"
    (folder / 'slow.py').write_text(steps.format(0.1))
    (folder / 'quick.py').write_text(steps.format(0.0))
    return folder


def environment():
    paths = os.pathsep.join([str(TOY), os.environ['PYTHONPATH']])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    return {**os.environ, 'PYTHONPATH': paths, 'PATH': path, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}


def command(files, out, *arguments):
    tool = Path(__file__).resolve().parents[2] / 'tools' / 'generate_pseudo_labels.py'
    return [sys.executable, str(tool), files / 'tiny.py', files / 'a.pth', '--out', out, *arguments]


def start(arguments, **options):
    return subprocess.Popen([str(part) for part in arguments], env=environment(), text=True, **options)


def finish(arguments):
    process = start(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    return stdout


def contents(folder):
    return {path.name: path.read_bytes() for path in (folder / 'masks').iterdir()}


@pytest.fixture
def in_process(load_tool, run_main, monkeypatch, capsys):
    """Run the tool in this process; returns its status, output and errors."""
    monkeypatch.syspath_prepend(str(TOY))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')

    def run(*arguments):
        status = run_main(load_tool('generate_pseudo_labels'), *arguments)
        found = capsys.readouterr()
        return status, found.out, found.err

    return run


def test_killed_runs_and_several_processes_give_the_same(files, tmp_path, repository):
    whole = finish(command(files, tmp_path / 'whole', '--steps', files / 'slow.py', '--workers', 1))
    assert whole.splitlines()[-1].startswith(f'{tmp_path / "whole" / "masks"}: {NUM_IMAGES} written in ')
    expected = contents(tmp_path / 'whole')
    assert len(expected) == NUM_IMAGES
    manifest = json.loads((tmp_path / 'whole' / 'manifest.json').read_text())
    assert manifest['checkpoint']['sha256'] == file_sha256(files / 'a.pth')
    assert manifest['config']['filename'] == str(files / 'tiny.py')
    assert manifest['steps'] == [{'type': 'SlowDecide', 'seconds': 0.1}]

    killed = tmp_path / 'killed'
    with (tmp_path / 'log.txt').open('w') as log:
        process = start(command(files, killed, '--steps', files / 'slow.py', '--workers', 1), stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while len(list((killed / 'masks').glob('*.png'))) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    present = [path for path in (killed / 'masks').iterdir() if path.suffix == '.png']
    assert 3 <= len(present) < NUM_IMAGES, (tmp_path / 'log.txt').read_text()
    assert not (killed / 'manifest.json').exists()
    assert all(path.read_bytes() == expected[path.name] for path in present)
    (killed / 'masks' / '.train_9.png.7-7.partial').write_bytes(b'what a writer leaves that is killed')
    resumed = finish(command(files, killed, '--steps', files / 'slow.py'))
    assert contents(killed) == expected
    assert f'{len(present)} were there already' in resumed
    found = json.loads((killed / 'manifest.json').read_text())
    assert (found['scores'], found['images']) == (manifest['scores'], manifest['images'])
    assert [entry['num_written'] for entry in found['runs']] == [len(present), NUM_IMAGES - len(present)]

    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        os.environ['PORT'] = str(sock.getsockname()[1])
    try:
        tool = [repository / 'tools' / 'dist_run.sh', 2, 'generate_pseudo_labels.py']
        finish([*tool, *command(files, tmp_path / 'two', '--steps', files / 'slow.py')[2:]])
    finally:
        del os.environ['PORT']
    assert contents(tmp_path / 'two') == expected
    found = json.loads((tmp_path / 'two' / 'manifest.json').read_text())
    assert found['images'] == manifest['images']
    # As many masks as images and as many writes as masks: no image was done twice.
    (entry,) = found['runs']
    assert (entry['num_processes'], entry['num_written']) == (2, NUM_IMAGES)
    assert entry['written_by_rank'] == [NUM_IMAGES // 2] * 2


def test_refusals(files, tmp_path, in_process):
    out = tmp_path / 'out'
    base = [files / 'tiny.py', files / 'a.pth', '--out', out]
    assert in_process(*base, '--steps', 'raw')[0] == 0
    before = contents(out)
    (files / 'cut.pth').write_bytes((files / 'a.pth').read_bytes()[:5000])
    torch.save([1], files / 'list.pth')
    (files / 'no_background.py').write_text("pseudo_labeler = dict(steps=[dict(type='ProportionalMask')])\n")
    cases = [
        ([files / 'tiny.py', files / 'b.pth', '--out', out], 'differs in: checkpoint sha256; '),
        ([*base, '--steps', files / 'quick.py'], 'differs in: steps; '),
        ([*base, '--split', 'val'], 'differs in: dataset config, images, image labels; '),
        ([*base, '--cfg-options', 'model.test_cfg.bg_setting=2.0'], 'differs in: model config; '),
        ([*base, '--steps', 'gone'], '--steps gone: no such file, nor one of the recipes crf, cvs_ppmg, '),
        ([*base, '--steps', files / 'tiny.py'], 'does not set pseudo_labeler'),
        ([*base, '--split', 'gone.txt'], 'split gone.txt is neither one of train, val, test nor a file'),
        ([*base, '--workers', '-1'], '--workers has to be 0 or more'),
        ([files / 'tiny.py', files / 'gone.pth', '--out', out], 'gone.pth does not exist'),
        ([files / 'tiny.py', files / 'tiny.py', '--out', out], 'tiny.py cannot be read as a checkpoint'),
        ([files / 'tiny.py', files / 'cut.pth', '--out', out], 'cut.pth cannot be read as a checkpoint'),
        ([files / 'tiny.py', files / 'list.pth', '--out', out], 'list.pth is no checkpoint: expected a dict'),
        ([*base, '--device', 'cuda:0'], '--device cuda:0 cannot be used: '),
        ([*base, '--device', 'nowhere'], '--device nowhere cannot be used: '),
        ([*base, '--steps', files / 'no_background.py', '--overwrite'], 'put DropBackground before it'),
        ([*base, '--cfg-options', 'model.head.num_classes=5'], 'does not fit the model of the config'),
        (
            [CONFIGS / 'fullysup_voc12mini.py', files / 'a.pth', '--out', out],
            'EncoderDecoder makes no localization maps',
        ),
    ]
    for arguments, message in cases:
        status, _, error = in_process(*arguments)
        assert status == 2, message
        # Loggers of earlier tests may still write to a stream that is closed, and complain about it before.
        line = error.splitlines()[-1]
        assert line.startswith('error: ')
        assert message in line
    assert contents(out) == before
    assert (out / 'manifest.json').exists()
    manifest = (out / 'manifest.json').read_bytes()
    loading = ['test_dataloader.batch_size=2', 'optim_wrapper.optimizer.lr=3']
    status, printed, _ = in_process(*base, '--steps', 'raw', '--cfg-options', *loading)
    assert (status, f'nothing to write; {NUM_IMAGES} were there already' in printed) == (0, True)
    assert (out / 'manifest.json').read_bytes() == manifest
    status, printed, _ = in_process(files / 'tiny.py', files / 'b.pth', '--out', out, '--overwrite')
    assert (status, 'were there already' in printed) == (0, False)
    assert contents(out) != before


def test_unreadable_images_come_up_before_the_network_runs(files, tmp_path, in_process):
    names = tmp_path / 'list.txt'
    names.write_text('train_0\nnowhere\n')
    status, _, error = in_process(files / 'tiny.py', files / 'a.pth', '--out', tmp_path / 'out', '--split', names)
    assert status == 2
    assert 'missing image: 1' in error
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('config', ['fcn_deit-t16_1xb16-2k_voc12mini-pseudo_224x224'])
def test_the_masks_train_a_segmentation_network(files, tmp_path, in_process, monkeypatch, config):
    out = tmp_path / 'out'
    assert in_process(files / 'tiny.py', files / 'a.pth', '--out', out)[0] == 0
    masks = {path.stem: np.asarray(Image.open(path)) for path in (out / 'masks').iterdir()}
    monkeypatch.setenv('MMWSSS_PSEUDO_MASKS', str(out / 'masks'))
    data_root = files / 'WeakVOCDataset'
    cfg = tiny_config(CONFIGS / 'stage2' / f'{config}.py', data_root, tmp_path / 'work')
    cfg.train_dataloader.dataset.data_prefix.seg_map_path = cfg.pseudo_masks
    runner = Runner.from_cfg(cfg)
    dataset = runner.train_dataloader.dataset
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        assert Path(info['seg_map_path']).parent == out / 'masks'
        mask = dataset.pipeline.transforms[1](dict(info))['gt_seg_map']
        assert np.array_equal(mask, masks[info['img_id']])
    runner.train()
    scores = runner.test()
    assert 0 <= scores['seg_mIoU'] <= 100
    assert (
        Path(runner.test_dataloader.dataset.get_data_info(0)['seg_map_path']).parent == data_root / 'SegmentationClass'
    )


@pytest.mark.parametrize('config', sorted((CONFIGS / 'stage2').glob('*.py')), ids=lambda path: path.stem)
def test_second_stage_reads_the_folder_from_the_environment(tmp_path, monkeypatch, config):
    monkeypatch.setenv('MMWSSS_PSEUDO_MASKS', str(tmp_path / 'some masks'))
    cfg = Config.fromfile(config)
    assert cfg.train_dataloader.dataset.data_prefix.seg_map_path == str(tmp_path / 'some masks')
    assert cfg.val_dataloader.dataset.get('data_prefix', {}).get('seg_map_path') != str(tmp_path / 'some masks')
    monkeypatch.delenv('MMWSSS_PSEUDO_MASKS')
    default = Config.fromfile(config).train_dataloader.dataset.data_prefix.seg_map_path
    assert default == os.path.abspath('work_dirs/pseudo_masks/masks')
