"""tools/test.py and the threshold sweep on a tiny CoSA: protocol in words, streams, both kinds of settings."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.registry import DefaultScope
from tiny_configs import CONFIGS, tiny_config, write_data

from mmwsss.apis import launch
from mmwsss.registry import MODELS

VIEWS = 'scales 1, 0.5 with mirror images'
NOTES = {'best_stream': 'assignment', 'best_stream/seg_mIoU': 'assignment', 'best_stream/maps_mIoU+tags': 'online'}


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a config, tiny.py, and checkpoints of it."""
    folder = tmp_path_factory.mktemp('cosa')
    cfg = tiny_config(CONFIGS / 'cosa_shapes.py', write_data(folder, 'ShapesDataset'), folder / 'runs')
    cfg.custom_hooks = []
    cfg.model.test_cfg.views.scales = (1.0, 0.5)
    cfg.dump(folder / 'tiny.py')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmwsss'):
        state = MODELS.build(cfg.model).state_dict()
    content = dict(state_dict=state, message_hub=dict(runtime_info=NOTES))
    torch.save(content, folder / 'iter_9.pth')
    torch.save(content, folder / 'best_best_stream_maps_mIoU+tags_iter_9.pth')
    torch.save({name: value for name, value in state.items() if name.startswith('online.')}, folder / 'online.pth')
    return folder


@pytest.fixture
def run_tool(
    folder: Path, tmp_path: Path, load_tool: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Callable[..., tuple[str, Path]]:
    """Run a tool in this process; returns what it printed, and its folder."""

    def run(name: str, checkpoint: str, *arguments: object) -> tuple[str, Path]:
        command = [f'{name}.py', folder / 'tiny.py', folder / checkpoint, '--work-dir', tmp_path, *arguments]
        monkeypatch.setattr(sys, 'argv', [str(part) for part in command])
        load_tool(name).main()
        return capsys.readouterr().out, tmp_path

    return run


def record_of(work_dir: Path) -> dict:
    (path,) = work_dir.rglob('metrics.json')
    return json.loads(path.read_text())


def test_the_protocol_tells_views_and_stream(run_tool: Callable) -> None:
    printed, work_dir = run_tool('test', 'iter_9.pth')
    record = record_of(work_dir)
    assert record['protocol'] == (f'{VIEWS}; image labels used for: maps, pseudo; stream: assignment; maps of head')
    assert record['scores']['maps_mIoU+tags'] > 0
    assert 'better in validation' not in printed


def test_protocols_have_their_own_views(run_tool: Callable) -> None:
    _, work_dir = run_tool('test', 'iter_9.pth', '--protocol', 'ss', 'ms', '--scales', '1', '1.5')
    assert record_of(work_dir)['protocol'] == (
        'ms at scales 1, 1.5; protocols: ss, ms; image labels used for: nothing; stream: assignment; maps of head'
    )


def test_the_noted_stream_is_mentioned(run_tool: Callable) -> None:
    name = 'best_best_stream_maps_mIoU+tags_iter_9.pth'
    printed, _ = run_tool('test', name, '--cfg-options', 'model.test_cfg.views=None')
    (line,) = [line for line in printed.splitlines() if 'better in validation' in line]
    assert 'stream online was better in validation, assignment is evaluated' in line
    assert line.endswith('--cfg-options model.test_cfg.stream=online')


def test_a_file_of_one_stream(run_tool: Callable) -> None:
    with pytest.raises(launch.UsageError, match=r'only of online; set model\.test_cfg\.stream=online'):
        run_tool('test', 'online.pth')
    options = ['--cfg-options', 'model.test_cfg.stream=online', 'model.test_cfg.views=None']
    printed, work_dir = run_tool('test', 'online.pth', *options)
    assert 'single scale; image labels used for: maps, pseudo; stream: online' in record_of(work_dir)['protocol']
    assert 'missing' not in printed


@pytest.mark.parametrize('name', ['test', 'analysis_tools/threshold_sweep'])
def test_a_network_of_other_width_is_refused(run_tool: Callable, name: str) -> None:
    out = ['--out', 'unused'] if 'sweep' in name else []
    with pytest.raises(launch.UsageError, match=r'iter_9\.pth does not fit the model of the config: .* another shape'):
        run_tool(name, 'iter_9.pth', *out, '--cfg-options', 'model.decode_head.channels=5')


def test_both_kinds_of_settings_have_a_panel(run_tool: Callable, tmp_path: Path, monkeypatch) -> None:
    drawn, save = [], Figure.savefig

    def savefig(figure: Figure, *arguments, **options) -> None:
        drawn.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, 'savefig', savefig)
    changes = ['model.test_cfg.views=None', 'model.test_cfg.pseudo_source=segmentation']
    run_tool('analysis_tools/threshold_sweep', 'iter_9.pth', '--out', tmp_path / 'out', '--cfg-options', *changes)
    record = json.loads((tmp_path / 'out' / 'sweep.json').read_text())
    kinds = {name: curve['background_channel'] for name, curve in record['curves'].items()}
    assert kinds == {'maps+tags': False, 'pseudo+tags': True}
    assert record['protocol'].endswith('stream: assignment; maps of head')
    (figure,) = drawn
    panels = [([text.get_text() for text in axes.get_legend().get_texts()], axes.get_xscale()) for axes in figure.axes]
    assert panels == [(['maps+tags'], 'linear'), (['pseudo+tags'], 'log')]
    assert [axes.get_xlabel() for axes in figure.axes] == ['threshold', 'factor on the background score']


def test_the_released_config_keeps_what_validation_makes() -> None:
    path = CONFIGS / 'cosa' / 'cosa_vit-b16_2xb2-32k_voc12aug-448x448_released.py'
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    launch.check_training(cfg)
    cfg.val_cfg.select = 'seg_mIoU'
    with pytest.raises(launch.UsageError, match='add it there'):
        launch.check_training(cfg)
