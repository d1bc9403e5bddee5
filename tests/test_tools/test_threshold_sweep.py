"""Sweep over background settings, and protocols of tools/test.py, on a tiny network."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from PIL import Image
from tiny_configs import CONFIGS, tiny_config, write_data

from mmwsss.apis import launch
from mmwsss.registry import MODELS

CLASSES = 21


@pytest.fixture(scope='module')
def written(tmp_path_factory) -> dict[str, Path]:
    """Files of a tiny CAM network and a tiny fully supervised one: config and checkpoint by name."""
    folder = tmp_path_factory.mktemp('sweep')
    files = {'folder': folder}
    for name in ('cam', 'fullysup'):
        path = CONFIGS / f'{name}_voc12mini.py'
        cfg = tiny_config(path, write_data(folder, 'WeakVOCDataset'), folder / 'runs')
        cfg.custom_hooks = []
        cfg.dump(folder / f'{name}.py')
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmwsss'):
            model = MODELS.build(cfg.model)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        torch.save({'state_dict': model.state_dict(), 'meta': {}}, folder / f'{name}.pth')
        files |= {name: folder / f'{name}.py', f'{name}.pth': folder / f'{name}.pth'}
    return files


@pytest.fixture
def run_tool(load_tool, monkeypatch, capsys):
    """Run a tool in this process; returns what it printed."""

    def run(name: str, *arguments) -> str:
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', *map(str, arguments)])
        load_tool(name).main()
        return capsys.readouterr().out

    return run


def sweep(run_tool, written, out, *more) -> tuple[dict, str]:
    files = (written['cam'], written['cam.pth'])
    printed = run_tool('analysis_tools/threshold_sweep', *files, '--out', out, '--grid', '0.1:0.5:0.2', *more)
    return json.loads((out / 'sweep.json').read_text()), printed


def test_curves_are_those_of_the_metric(run_tool, written, tmp_path):
    record, printed = sweep(run_tool, written, tmp_path / 'out')
    assert list(record['curves']) == ['maps+tags', 'pseudo+tags']
    for name, curve in record['curves'].items():
        assert curve['settings'] == [0.1, 0.3, 0.5]
        assert curve['background_channel'] is False
        best = curve['best']
        assert best['mIoU'] == max(curve['mIoU']) == curve['mIoU'][curve['settings'].index(best['setting'])]
        found = [value for value in best['IoU'].values() if value is not None]
        assert len(best['IoU']) == CLASSES
        assert np.mean(found) == pytest.approx(best['mIoU'], abs=0.01)
        assert f'{name}: best mIoU {best["mIoU"]:.2f} at background setting {best["setting"]:g}' in printed
    assert record['protocol'] == 'single scale; image labels used for: maps, pseudo'
    assert (record['split'], record['checkpoint']) == ('val', str(written['cam.pth']))
    assert Image.open(tmp_path / 'out' / 'sweep.png').size[0] > 300

    (tmp_path / 'single').mkdir()
    run_tool('test', written['cam'], written['cam.pth'], '--work-dir', tmp_path / 'single')
    (scores,) = (tmp_path / 'single').rglob('metrics.json')
    configured = record['curves']['maps+tags']['mIoU'][1]  # CAM's own setting is 0.3
    assert json.loads(scores.read_text())['scores']['maps_mIoU+tags'] == configured


def test_without_tags_and_on_the_training_images(run_tool, written, tmp_path):
    options = ['--split', 'train', '--cfg-options', 'model.test_cfg.use_image_labels=False']
    record, _ = sweep(run_tool, written, tmp_path / 'out', *options)
    assert list(record['curves']) == ['maps', 'pseudo']
    assert record['protocol'].endswith('image labels used for: nothing')
    assert record['split'] == 'train'
    cfg = Config.fromfile(next((tmp_path / 'out').rglob('cam.py')))
    assert cfg.test_dataloader.dataset.ann_file.endswith('train.txt')
    assert cfg.test_dataloader.dataset.pipeline == Config.fromfile(written['cam']).test_dataloader.dataset.pipeline


def test_grid_of_the_command_line(load_tool):
    tool = load_tool('analysis_tools/threshold_sweep')
    assert tool.parse_grid('0.05:0.2:0.05') == [0.05, 0.1, 0.15, 0.2]
    assert tool.parse_grid('1:1:1') == [1.0]
    for text in ('0.1', '0.1:x:0.1', '0.5:0.1:0.1', '0:1:0', '-1:1:1', '0:inf:1', 'nan:1:1'):
        with pytest.raises(launch.UsageError, match=f'--grid {text}: expected'):
            tool.parse_grid(text)


def test_what_cannot_be_swept(run_tool, written, tmp_path, monkeypatch):
    def sweep_of(name, *more):
        tool = 'analysis_tools/threshold_sweep'
        run_tool(tool, written[name], written[f'{name}.pth'], '--out', tmp_path, *more)

    monkeypatch.setattr(Runner, 'test', lambda runner: pytest.fail('evaluated before the check'))
    with pytest.raises(launch.UsageError, match='EncoderDecoder makes no localization maps to sweep'):
        sweep_of('fullysup')
    with pytest.raises(launch.UsageError, match='split val have no masks to compare with'):
        sweep_of('cam', '--cfg-options', 'val_dataloader.dataset.data_prefix.seg_map_path=None')
    with pytest.raises(launch.UsageError, match=r'split gone\.txt is neither'):
        sweep_of('cam', '--split', 'gone.txt')
    assert not (tmp_path / 'sweep.json').exists()


def test_wrapped_training_images_are_swept(run_tool, written, tmp_path):
    cfg = Config.fromfile(written['cam'])
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=3, dataset=cfg.train_dataloader.dataset)
    cfg.dump(tmp_path / 'repeated.py')
    record, _ = sweep(run_tool, {**written, 'cam': tmp_path / 'repeated.py'}, tmp_path / 'out', '--split', 'train')
    assert record['split'] == 'train'


@pytest.mark.parametrize('name', ['cam', 'fullysup'])
def test_protocols_from_one_pass(run_tool, written, tmp_path, name):
    protocols = ['ss', 'ms+flip', 'ms+tags+flip']
    printed = run_tool(
        'test', written[name], written[f'{name}.pth'], '--work-dir', tmp_path, '--protocol', *protocols,
        '--scales', '1', '1.5', '--out', tmp_path / 'png',
    )  # fmt: skip
    (path,) = tmp_path.rglob('metrics.json')
    record = json.loads(path.read_text())
    names = [key for key in record['scores'] if key.endswith('_mIoU')]
    assert names == ['ss_mIoU', 'ms+flip_mIoU', 'ms+flip+tags_mIoU']
    assert len(record['per_class']['ms+flip+tags_IoU']) == CLASSES
    assert record['protocol'] == (
        'ms at scales 1, 1.5; protocols: ss, ms+flip, ms+flip+tags; image labels used for: ms+flip+tags'
    )
    assert 'ms+flip+tags' in printed
    assert f'{record["scores"]["ss_mIoU"]:.2f}' in printed
    assert len(list((tmp_path / 'png').iterdir())) == 2

    run_tool('test', written[name], written[f'{name}.pth'], '--work-dir', tmp_path / 'plain')
    (path,) = (tmp_path / 'plain').rglob('metrics.json')
    assert json.loads(path.read_text())['scores']['seg_mIoU'] == record['scores']['ss_mIoU']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--protocol', 'ss+foo'], "--protocol: protocol 'ss\\+foo': unknown part 'foo'; allowed are ss\\|ms"),
        (['--protocol', 'ms', '--scales', '0', '1'], '--scales: have to be positive, got 0'),
        (['--protocol', 'ss', 'ms+rw'], '--protocol ms\\+rw: set protocol_model.refiners.rw in the config'),
        (['--protocol', 'ms+tags', '--out', 'png'], 'save masks made without image labels; add one without'),
        (['--scales', '1'], '--scales needs --protocol'),
        (['--protocol', 'ss', '--tta'], '--protocol makes its own views'),
        (
            ['--protocol', 'ss+tags', '--cfg-options', 'test_dataloader.dataset.label_source=None'],
            '--protocol ss\\+tags needs image labels, the test dataset has none',
        ),
        (
            ['--protocol', 'ss', '--cfg-options', 'test_evaluator.type=IoUMetric'],
            '--protocol needs WSSSMetric in test_evaluator',
        ),
    ],
)
def test_mistakes_with_protocols(run_tool, written, tmp_path, arguments, message):
    with pytest.raises(launch.UsageError, match=message):
        run_tool('test', written['cam'], written['cam.pth'], '--work-dir', tmp_path, *arguments)
