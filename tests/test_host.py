"""Our configs under the entry points of mmsegmentation itself."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.apis import MMSegInferencer, inference_model, init_model
from tiny_configs import CONFIGS, tiny_config, write_data

from mmwsss.datasets.shapes import CLASSES, PALETTE


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with tiny.py and iter_2.pth, trained by the train.py that mmsegmentation installs."""
    folder = tmp_path_factory.mktemp('host')
    data_root = write_data(folder, 'ShapesDataset')
    tiny_config(CONFIGS / 'vitpcm_shapes.py', data_root, folder / 'unused').dump(folder / 'tiny.py')
    tool = Path(importlib.util.find_spec('mmseg').origin).parent / '.mim' / 'tools' / 'train.py'
    env = {**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, str(tool), str(folder / 'tiny.py'), '--work-dir', str(folder)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope='module')
def image_path(trained: Path) -> Path:
    return trained / 'ShapesDataset' / 'JPEGImages' / 'val_00000.jpg'


def test_train_of_mmseg(trained: Path) -> None:
    checkpoint = torch.load(trained / 'iter_2.pth', weights_only=True)
    assert checkpoint['meta']['iter'] == 2
    assert tuple(checkpoint['meta']['dataset_meta']['classes']) == CLASSES


def test_inference_model(trained: Path, image_path: Path) -> None:
    model = init_model(trained / 'tiny.py', str(trained / 'iter_2.pth'), device='cpu')
    assert model.dataset_meta['palette'] == PALETTE
    from_file = inference_model(model, str(image_path))
    image = mmcv.imread(str(image_path))
    assert from_file.pred_sem_seg.data.shape == (1, *image.shape[:2])
    assert not from_file.used_image_labels
    from_array, again = inference_model(model, [image, image])
    for result in (from_array, again):
        assert torch.equal(result.pred_sem_seg.data, from_file.pred_sem_seg.data)
        torch.testing.assert_close(result.localization_maps.data, from_file.localization_maps.data)


def test_inferencer(trained: Path, image_path: Path, tmp_path: Path) -> None:
    inferencer = MMSegInferencer(model=str(trained / 'tiny.py'), weights=str(trained / 'iter_2.pth'), device='cpu')
    image = mmcv.imread(str(image_path))
    model = init_model(trained / 'tiny.py', str(trained / 'iter_2.pth'), device='cpu')
    expected = inference_model(model, str(image_path)).pred_sem_seg.data[0].numpy()
    from_file = inferencer(str(image_path), out_dir=str(tmp_path), return_vis=True)
    assert np.array_equal(from_file['predictions'], expected)
    assert from_file['visualization'].shape == image.shape
    assert (tmp_path / 'vis' / image_path.name).is_file()
    (mask,) = (tmp_path / 'pred').iterdir()
    assert np.array_equal(mmcv.imread(str(mask), flag='unchanged'), expected)
    assert np.array_equal(inferencer(image)['predictions'], expected)


def test_upper_reference_in_init_model(tmp_path: Path, image_path: Path) -> None:
    path = CONFIGS / 'fullysup_voc12mini.py'
    tiny_config(path, tmp_path, tmp_path).dump(tmp_path / 'tiny.py')
    model = init_model(Config.fromfile(tmp_path / 'tiny.py'), device='cpu')
    result = inference_model(model, str(image_path))
    assert result.pred_sem_seg.data.shape == (1, *mmcv.imread(str(image_path)).shape[:2])
