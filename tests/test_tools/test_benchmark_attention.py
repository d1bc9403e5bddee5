import importlib
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / 'tools' / 'benchmarks'


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module('attention')


def test_every_choice_of_layers_takes_a_step(tool, tmp_path, capsys):
    out = tmp_path / 'attention.json'
    assert tool.main(['--arch', 'vit-xt', '--batch', '1', '--crop', '64', '--repeat', '2', '--json', str(out)]) == 0
    entries = {entry['name']: entry for entry in json.loads(out.read_text())}
    assert set(entries) == {'attention_none', 'attention_last_one', 'attention_last_two', 'attention_all'}
    assert all(entry['ours_s'] > 0 for entry in entries.values())
    assert entries['attention_none']['ratio'] == 1
    more = {name: entry['more_memory_bytes'] for name, entry in entries.items()}
    assert more['attention_none'] == 0
    assert more['attention_all'] == 2 * more['attention_last_one'] > 0, 'each of the two blocks pays for its own'
    assert 'slower %' in capsys.readouterr().out


def test_a_step_leaves_no_gradient_and_no_weights_behind(tool):
    network = tool.TokenViT(arch='vit-xt', img_size=64)
    tool.train_step(network, tool.torch.randn(1, 3, 64, 64), 'all')
    assert all(weight.grad is None for weight in network.parameters())
    assert all(layer.attn.scaled_dot_product_attention.weights is None for layer in network.layers)


def test_an_unknown_network_is_one_line(tool, capsys):
    assert tool.main(['--arch', 'vit-q']) == 1
    assert "unknown arch 'vit-q'" in capsys.readouterr().err
