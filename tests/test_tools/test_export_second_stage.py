"""The masks that a trained segmentation network predicts, exported by the tool for another training (CP)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from PIL import Image
from tiny_configs import CONFIGS, tiny_config, write_data

from mmwsss.registry import DATASETS, MODELS


def test_masks_are_the_predictions(load_tool, run_main, monkeypatch, tmp_path: Path) -> None:
    data_root = write_data(tmp_path, 'WeakVOCDataset')
    path = CONFIGS / 'pmm' / 'fcn_deit-t16_1xb16-2k_voc12mini-pseudo_224x224.py'
    cfg = tiny_config(path, data_root, tmp_path / 'work')
    steps = [dict(type='Refine', refiner=dict(type='DenseCRF', iterations=2)), dict(type='Decide')]
    cfg.model.update(pseudo_labeler=dict(steps=steps), test_cfg=dict(views=dict(scales=(0.5, 1.0), flip=True)))
    cfg.dump(tmp_path / 'tiny.py')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'iter_1.pth')
    arguments = [tmp_path / 'tiny.py', tmp_path / 'iter_1.pth', '--out', tmp_path / 'out', '--maps']
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert run_main(load_tool('generate_pseudo_labels'), *arguments) == 0

    model.eval()
    dataset = DATASETS.build(
        dict(cfg.train_dataloader.dataset, pipeline=cfg.test_dataloader.dataset.pipeline, test_mode=True)
    )
    names = {f'{dataset.get_data_info(index)["img_id"]}.png' for index in range(len(dataset))}
    assert {file.name for file in (tmp_path / 'out' / 'masks').iterdir()} == names
    for index in range(len(dataset)):
        (sample,) = model.test_step(pseudo_collate([dataset[index]]))
        mask = np.asarray(Image.open(tmp_path / 'out' / 'masks' / f'{sample.img_id}.png'))
        assert np.array_equal(mask, sample.pred_sem_seg.data[0].numpy())
    manifest = json.loads((tmp_path / 'out' / 'manifest.json').read_text())
    assert not manifest['used_image_labels']
    assert 'scales 0.5, 1' in manifest['protocol']
