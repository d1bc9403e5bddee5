import importlib
import json
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / 'tools' / 'benchmarks'
WIDTH = 16


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module('apc_step')


@pytest.fixture
def tiny(tool, tmp_path):
    """Writes a config of a tiny network with further settings of the model and returns its path."""

    def write(**settings):
        arch = dict(_delete_=True, embed_dims=WIDTH, num_layers=2, num_heads=2, feedforward_channels=32)
        model = dict(
            backbone=dict(arch=arch, num_trainable_blocks=1),
            neck=dict(in_channels=WIDTH, hidden=4),
            head=dict(in_channels=16),
            decode_head=dict(in_channels=WIDTH, channels=8),
        )
        path = tmp_path / 'tiny.py'
        path.write_text(f'_base_ = {str(tool.CONFIG)!r}\nmodel = {model | settings!r}\n')
        return path

    return write


def test_every_variant_takes_steps_of_its_own(tool, tiny, tmp_path, capsys):
    out = tmp_path / 'times.json'
    arguments = ['--config', str(tiny()), '--batch', '2', '--crop', '64', '--repeat', '2', '--json', str(out)]
    assert tool.main(arguments) == 0
    entries = {entry['name']: entry for entry in json.loads(out.read_text())}
    assert set(entries) == {tool.BASE, tool.FIXED, tool.ADAPTIVE, tool.CONTRAST, tool.FULL}
    assert entries[tool.BASE]['overhead_percent'] == 0
    assert entries[tool.BASE]['ratio'] == 1
    assert all(entry['ours_s'] > 0 and entry['reference_s'] > 0 for entry in entries.values())
    assert 'overhead' in capsys.readouterr().out


def test_variants_differ_in_what_their_names_say(tool, tiny):
    sides = tool.load_sides(tool.Config.fromfile(tiny()), torch.device('cpu'))
    poolings = {name: type(side.model.head.pooling).__name__ for name, side in sides.items()}
    assert poolings == {
        tool.BASE: 'GlobalMaxPooling',
        tool.FIXED: 'TopKPooling',
        tool.ADAPTIVE: 'AdaptiveKPooling',
        tool.CONTRAST: 'GlobalMaxPooling',
        tool.FULL: 'AdaptiveKPooling',
    }
    contrast = {name for name, side in sides.items() if side.model.loss_pce is not None}
    assert contrast == {tool.CONTRAST, tool.FULL}
    assert all(side.model.segments for side in sides.values())
    first, last = (sides[name].model.state_dict() for name in (tool.BASE, tool.FULL))
    assert all(torch.equal(first[name], last[name]) for name in first)


def test_ratios_compare_steps_of_one_turn(tool):
    results = tool.summarise({tool.BASE: [1.0, 2.0, 4.0], tool.FULL: [1.1, 2.2, 4.4]})
    assert results[1]['overhead_percent'] == pytest.approx(10)
    assert results[1]['ratio'] == pytest.approx(1 / 1.1)


def test_a_config_without_contrast_is_refused(tool, tiny, capsys):
    assert tool.main(['--config', str(tiny(loss_pce=None))]) == 1
    assert 'APC' in capsys.readouterr().err
