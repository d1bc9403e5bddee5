import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image
from tiny_configs import CONFIGS, tiny_config, write_data

from mmwsss.engine.hooks import PseudoLabelExportHook
from mmwsss.engine.hooks.pseudo_label_hook import labeling_with
from mmwsss.pseudo_labels.background import maps_to_mask
from mmwsss.pseudo_labels.export_data import ExportError, export_dataset_cfg
from mmwsss.pseudo_labels.labeler import LabelStep
from mmwsss.registry import DATASETS, HOOKS, PSEUDO_LABEL_STEPS


@PSEUDO_LABEL_STEPS.register_module()
class EverythingForeground(LabelStep):
    """Every pixel is of class 1."""

    decides = True

    def __call__(self, state):
        maps = state.maps.new_ones(1, 1, *state.size)
        return type(state)(maps, False, state.size, mask=maps_to_mask(maps, 0.0, False))


@HOOKS.register_module()
class ModeAfterExportHook(Hook):
    """Remembers the mode of the model after the hooks of low priority."""

    priority = 'LOWEST'

    def __init__(self):
        self.modes = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.modes.append(runner.model.training)


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp('data'), 'WeakVOCDataset')


def train(data_root, folder, hook=None):
    cfg = tiny_config(CONFIGS / 'vitpcm_voc12mini.py', data_root, folder)
    cfg.custom_hooks = [dict(type='ModeAfterExportHook')]
    if hook is not None:
        cfg.custom_hooks.append(dict(type='PseudoLabelExportHook', **hook))
    cfg.default_hooks.pop('iteration_seed')  # it would hide that a hook draws random numbers
    cfg.train_cfg.update(max_iters=4, val_interval=10)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def masks(folder):
    return {path.stem: np.asarray(Image.open(path)) for path in (folder / 'masks').iterdir()}


def test_export_changes_nothing_in_the_training(data_root, tmp_path):
    plain = train(data_root, tmp_path / 'plain')
    exporting = train(data_root, tmp_path / 'exporting', dict(out_dir=str(tmp_path / 'out'), interval=2))
    for name, value in plain.model.state_dict().items():
        assert torch.equal(exporting.model.state_dict()[name], value), name
    (modes,) = (hook.modes for hook in exporting.hooks if isinstance(hook, ModeAfterExportHook))
    assert modes == [True] * 4
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['iter_2', 'iter_4']
    manifest = json.loads((tmp_path / 'out' / 'iter_4' / 'manifest.json').read_text())
    assert manifest['checkpoint'] == {'path': None, 'sha256': None, 'iteration': 4}
    assert (manifest['num_images'], manifest['split'], manifest['steps']) == (8, 'train', None)
    model = exporting.model.eval()
    dataset = DATASETS.build(export_dataset_cfg(exporting.cfg, 'train'))
    found = masks(tmp_path / 'out' / 'iter_4')
    for index in range(len(dataset)):
        item = dataset[index]
        (sample,) = model.test_step({'inputs': [item['inputs']], 'data_samples': [item['data_samples']]})
        assert np.array_equal(found[sample.img_id], sample.pseudo_mask.data[0].numpy())


def test_exports_once_after_the_training_with_other_steps_and_data(data_root, tmp_path):
    cfg = tiny_config(CONFIGS / 'vitpcm_voc12mini.py', data_root, tmp_path)
    loader = dict(dataset=export_dataset_cfg(cfg, 'val'), batch_size=2)
    hook = dict(out_dir=str(tmp_path / 'out'), dataloader=loader, steps=[dict(type='EverythingForeground')], workers=0)
    (tmp_path / 'out' / 'masks').mkdir(parents=True)
    (tmp_path / 'out' / 'masks' / 'old.png').write_bytes(b'')
    runner = train(data_root, tmp_path / 'work', hook)
    found = masks(tmp_path / 'out')
    assert sorted(found) == ['val_0', 'val_1']
    assert all((mask == 1).all() for mask in found.values())
    assert runner.model.pseudo_labeler is None
    assert json.loads((tmp_path / 'out' / 'manifest.json').read_text())['steps'] == [{'type': 'EverythingForeground'}]


def test_labeler_comes_back_after_an_error():
    model = torch.nn.Module()
    model.pseudo_labeler = 'own'
    context = labeling_with(model, 'other')
    context.__enter__()
    assert model.pseudo_labeler == 'other'
    with pytest.raises(RuntimeError, match='stop'):
        context.gen.throw(RuntimeError('stop'))
    assert model.pseudo_labeler == 'own'
    with labeling_with(model, None):
        assert model.pseudo_labeler == 'own'


def test_mistakes(tmp_path):
    with pytest.raises(ValueError, match='interval has to be None or at least 1, got 0'):
        PseudoLabelExportHook(tmp_path, interval=0)
    with pytest.raises(ValueError, match='no step decides a mask'):
        PseudoLabelExportHook(tmp_path, steps=[])

    class Bare:
        cfg = Config(dict(train_dataloader=dict(dataset=dict(type='WeakVOCDataset'))))

    with pytest.raises(ExportError, match='no test_dataloader or val_dataloader'):
        PseudoLabelExportHook(tmp_path).before_train(deepcopy(Bare()))
