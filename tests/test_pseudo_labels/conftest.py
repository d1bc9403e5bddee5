"""What the tests of exports share: a tiny network with its data, and short ways to export."""

import pytest
import torch
from mmengine.registry import DefaultScope, init_default_scope
from tiny_configs import CONFIGS, tiny_config, write_data

from mmwsss.pseudo_labels.export_data import export_dataset_cfg
from mmwsss.registry import DATASETS, MODELS


@pytest.fixture(scope='module')
def export_scope():
    before = DefaultScope.get_current_instance()
    init_default_scope('mmwsss')
    yield
    init_default_scope(before.scope_name if before else 'mmengine')


@pytest.fixture(scope='module')
def cfg(tmp_path_factory, export_scope):
    folder = tmp_path_factory.mktemp('export')
    data_root = write_data(folder, 'WeakVOCDataset')
    return tiny_config(CONFIGS / 'vitpcm_voc12mini.py', data_root, folder / 'work')


@pytest.fixture(scope='module')
def model(cfg):
    torch.manual_seed(0)
    return MODELS.build(cfg.model).eval()


@pytest.fixture(scope='module')
def dataset(cfg):
    return DATASETS.build(export_dataset_cfg(cfg, 'train'))
