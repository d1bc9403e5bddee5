"""The option --maps of the export tool."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_configs import CONFIGS, tiny_config, write_data

from mmwsss.pseudo_labels.stored_maps import read_maps
from mmwsss.registry import MODELS

NUM_IMAGES = 4


@pytest.fixture
def export(load_tool, run_main, monkeypatch, capsys, tmp_path):
    """Run the tool on a tiny network; returns its status, output and errors."""
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    data_root = write_data(tmp_path, 'WeakVOCDataset', train=NUM_IMAGES)
    cfg = tiny_config(CONFIGS / 'vitpcm_voc12mini.py', data_root, tmp_path / 'work')
    cfg.dump(tmp_path / 'tiny.py')
    torch.manual_seed(0)
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, tmp_path / 'a.pth')

    def run(*arguments: object) -> tuple[int, str, str]:
        files = tmp_path / 'tiny.py', tmp_path / 'a.pth', '--out', tmp_path / 'out'
        status = run_main(load_tool('generate_pseudo_labels'), *files, *arguments)
        found = capsys.readouterr()
        return status, found.out, found.err

    return run


@pytest.mark.parametrize(('steps', 'background'), [('raw', True), ('cvs_ppmg', False)])
def test_maps_lie_beside_masks(export, tmp_path: Path, steps: str, background: bool) -> None:
    assert export('--steps', steps, '--maps')[0] == 0
    out = tmp_path / 'out'
    manifest = json.loads((out / 'manifest.json').read_text())
    assert manifest['maps'] is True
    assert sorted(path.name for path in (out / 'maps').iterdir()) == [f'train_{i}.npz' for i in range(NUM_IMAGES)]
    for name, entry in manifest['images'].items():
        maps, values = read_maps(out / 'maps' / f'{name}.npz')
        present = [manifest['classes'].index(label) for label in entry['image_labels']]
        assert values.tolist() == [0] * background + present
        mask = np.asarray(Image.open(out / 'masks' / f'{name}.png'))
        assert tuple(maps.shape[1:]) == mask.shape
        if background:
            assert (values[maps.argmax(0)].numpy() == mask).mean() > 0.98
    kept = {path.name: path.stat().st_mtime_ns for path in (out / 'maps').iterdir()}
    (out / 'maps' / 'train_1.npz').unlink()
    status, printed, _ = export('--steps', steps, '--maps')
    assert (status, f'{NUM_IMAGES - 1} were there already' in printed) == (0, True)
    again = {path.name: path.stat().st_mtime_ns for path in (out / 'maps').iterdir()}
    assert [name for name in kept if again[name] != kept[name]] == ['train_1.npz']
    status, _, error = export('--steps', steps)
    assert (status, 'differs in: maps;' in error) == (2, True)
