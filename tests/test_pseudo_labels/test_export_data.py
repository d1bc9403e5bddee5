"""Which masks an evaluation compares with."""

from __future__ import annotations

import pytest
from mmengine.registry import init_default_scope
from tiny_configs import CONFIGS, tiny_config, write_data

from mmwsss.pseudo_labels.export_data import ExportError, export_dataset_cfg, scored_dataset_cfg
from mmwsss.registry import DATASETS

STAGE = CONFIGS / 'stage2' / 'fcn_deit-t16_1xb16-2k_voc12mini-pseudo_224x224.py'


@pytest.fixture
def cfg(tmp_path):
    init_default_scope('mmwsss')
    return tiny_config(STAGE, write_data(tmp_path, 'WeakVOCDataset'), tmp_path)


def masks_of(dataset):
    return DATASETS.build(dataset).get_data_info(0)['seg_map_path']


@pytest.mark.parametrize('inside', [False, True])
def test_pseudo_masks_of_a_second_stage_are_no_truth(cfg, tmp_path, inside):
    root = tmp_path / 'WeakVOCDataset'
    exported = (root if inside else tmp_path) / 'exported' / 'masks'
    exported.mkdir(parents=True)
    for path in (root / 'SegmentationClass').iterdir():
        (exported / path.name).write_bytes(path.read_bytes())
    (exported.parent / 'manifest.json').write_text('{}')
    cfg.train_dataloader.dataset.data_prefix.seg_map_path = str(exported)
    (tmp_path / 'list.txt').write_text('train_0\n')
    for split in ('train', str(tmp_path / 'list.txt')):
        assert masks_of(export_dataset_cfg(cfg, split)) == str(exported / 'train_0.png')
        assert masks_of(scored_dataset_cfg(cfg, split)) == str(root / 'SegmentationClass' / 'train_0.png')
    assert masks_of(scored_dataset_cfg(cfg, 'val')) == str(root / 'SegmentationClass' / 'val_0.png')
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_prefix = dict(img_path='other', seg_map_path='SegmentationClass')
    with pytest.raises(ExportError, match=r'exported/masks, which the training reads, are no truth for the split'):
        scored_dataset_cfg(cfg, 'train')


def test_masks_of_the_data_set_are_truth(tmp_path):
    init_default_scope('mmwsss')
    cfg = tiny_config(CONFIGS / 'vitpcm_voc.py', write_data(tmp_path, 'WeakVOCDataset'), tmp_path)
    assert scored_dataset_cfg(cfg, 'train') == export_dataset_cfg(cfg, 'train')
