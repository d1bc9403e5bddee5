import json
import re
from copy import deepcopy

import numpy as np
import pytest
import torch
from export_cases import contents, run, source
from mmengine.config import Config
from PIL import Image
from tiny_configs import CONFIGS, tiny_config

from mmwsss.datasets import DatasetError
from mmwsss.evaluation import confusion
from mmwsss.evaluation.record import device_name
from mmwsss.pseudo_labels.export import export_pseudo_labels
from mmwsss.pseudo_labels.export_data import (
    ExportError,
    export_dataset_cfg,
    has_masks,
    image_ids,
    truth_reader,
    without_annotations,
)
from mmwsss.pseudo_labels.labeler import PseudoLabeler
from mmwsss.pseudo_labels.manifest import mask_palette, protocol_of_masks
from mmwsss.registry import DATASETS, MODELS
from mmwsss.utils import progress


@pytest.mark.parametrize(('workers', 'batch_size'), [(0, 1), (2, 3)])
def test_masks_are_those_of_predict(model, dataset, tmp_path, workers, batch_size):
    result = run(model, dataset, tmp_path / 'new' / 'out', workers=workers, batch_size=batch_size)
    assert (result.written, result.skipped) == (8, 0)
    for index, name in enumerate(image_ids(dataset)):
        item = dataset[index]
        (sample,) = model.test_step({'inputs': [item['inputs']], 'data_samples': [item['data_samples']]})
        with Image.open(result.masks / f'{name}.png') as image:
            assert image.mode == 'P'
            assert image.getpalette()[3:6] == list(dataset.metainfo['palette'][1])
            assert np.array_equal(np.asarray(image), sample.pseudo_mask.data[0].numpy())
    assert len(contents(result.masks)) == 8


def test_manifest(model, dataset, tmp_path):
    result = run(
        model, dataset, tmp_path, src=source(checkpoint='a.pth', checkpoint_sha256='beef', steps=[{'type': 'X'}])
    )
    manifest = json.loads((tmp_path / 'manifest.json').read_text())
    assert manifest['config'] == {'filename': 'a.py', 'sha256': 'c0'}
    assert manifest['checkpoint'] == {'path': 'a.pth', 'sha256': 'beef', 'iteration': None}
    assert (manifest['steps'], manifest['split'], manifest['ignore_index']) == ([{'type': 'X'}], 'train', 255)
    assert manifest['classes'] == list(dataset.metainfo['classes'])
    assert manifest['palette'] == [list(colour) for colour in dataset.metainfo['palette']]
    assert (manifest['num_images'], manifest['used_image_labels']) == (8, True)
    (entry,) = manifest['runs']
    assert (entry['num_left'], entry['num_written'], entry['written_by_rank'], entry['num_processes']) == (8, 8, [8], 1)
    assert entry['seconds'] >= 0
    assert entry['images_per_second'] > 0
    assert entry['date'].endswith('+00:00')
    assert manifest['device'] == entry['device'] == device_name('cpu')
    assert manifest['versions']['torch'] == torch.__version__
    assert manifest['protocol'] == 'single scale; image labels used for: pseudo'
    total, truth, classes = 0, truth_reader(dataset), manifest['classes']
    for index, name in enumerate(image_ids(dataset)):
        mask = np.asarray(Image.open(result.masks / f'{name}.png')).astype(np.int64)
        entry = manifest['images'][name]
        labels = np.flatnonzero(dataset.get_data_info(index)['image_labels'])
        assert entry['image_labels'] == [classes[k + 1] for k in labels]
        assert entry['classes'] == [classes[value] for value in np.unique(mask)]
        assert set(entry['classes']) <= {'background', *entry['image_labels']}
        true = torch.from_numpy(truth(index).astype(np.int64))
        total = total + confusion.confusion_matrix(torch.from_numpy(mask), true, len(classes), 255)
    iou, miou = confusion.iou_from_confusion(total)
    assert manifest['scores'] == {'pseudo_mIoU+tags': pytest.approx(100 * miou.item(), abs=0.006)}
    per_class = manifest['per_class']['pseudo_IoU+tags']
    for name, value in zip(classes, iou.tolist()):
        assert per_class[name] == (None if value != value else pytest.approx(100 * value, abs=0.006))


def test_mistakes_of_steps_show_before_anything_is_removed(cfg, model, dataset, tmp_path, monkeypatch):
    run(model, dataset, tmp_path)
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(model, 'pseudo_labeler', PseudoLabeler([dict(type='ProportionalMask')]))
        with pytest.raises(ExportError, match=r'pseudo mask of train_0: ProportionalMask.*DropBackground'):
            run(model, dataset, tmp_path, src=source(steps=[]), overwrite=True)
    assert contents(tmp_path) == before
    unpacked = deepcopy(export_dataset_cfg(cfg, 'train'))
    unpacked['pipeline'][-1] = dict(type='PackSegInputs')
    with pytest.raises(ExportError, match=r'pseudo mask of train_0: .*carries no image_labels'):
        run(model, DATASETS.build(unpacked), tmp_path / 'other')


def test_progress_without_a_terminal(model, dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, 'PLAIN_INTERVAL', 0.0)
    export_pseudo_labels(model, dataset, tmp_path, source())
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('pseudo masks')]
    assert len(lines) == 8
    assert re.fullmatch(r'pseudo masks: 3/8, \d:\d\d:\d\d left', lines[2])


def test_label_free(cfg, model, tmp_path):
    dataset = DATASETS.build({**export_dataset_cfg(cfg, 'val'), 'label_source': None})
    result = run(model, dataset, tmp_path)
    manifest = result.manifest
    assert manifest['used_image_labels'] is False
    assert list(manifest['scores']) == ['pseudo_mIoU']
    for index, name in enumerate(image_ids(dataset)):
        item = dataset[index]
        (sample,) = model.test_step({'inputs': [item['inputs']], 'data_samples': [item['data_samples']]})
        assert np.array_equal(np.asarray(Image.open(result.masks / f'{name}.png')), sample.pred_sem_seg.data[0])
        assert manifest['images'][name]['image_labels'] is None


def test_without_masks_there_is_no_score(cfg, model, tmp_path):
    changed = deepcopy(cfg)
    changed.val_dataloader.dataset.update(label_source=None, data_prefix=dict(seg_map_path=None))
    dataset_cfg = export_dataset_cfg(changed, 'val')
    assert not has_masks(dataset_cfg)
    assert [step['type'] for step in dataset_cfg['pipeline']] == [
        'LoadImageFromFile',
        'ResizeAlignCorners',
        'PackWeakInputs',
    ]
    result = run(model, DATASETS.build(dataset_cfg), tmp_path)
    assert result.manifest['scores'] == {}
    assert result.manifest['protocol'] == 'single scale; image labels used for: nothing'
    assert result.written == 2


def test_protocol_needs_no_score():
    assert protocol_of_masks(True, None) == 'single scale; image labels used for: pseudo'
    words = 'views at scales 0.5, 1 with mirror images; image labels used for: nothing'
    assert protocol_of_masks(False, dict(scales=(0.5, 1), flip=True)) == words


def test_leaves_the_training_alone(model, dataset, tmp_path):
    model.train()
    model.backbone.eval()
    modes = [module.training for module in model.modules()]
    np_state, state = np.random.get_state()[1].copy(), torch.get_rng_state()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        run(model, dataset, tmp_path, workers=2)
        assert [module.training for module in model.modules()] == modes
    finally:
        model.eval()
    assert np.array_equal(np.random.get_state()[1], np_state)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_split_files_and_loaders(cfg, tmp_path):
    names = tmp_path / 'some.txt'
    names.write_text('train_5\ntrain_2\n')
    assert image_ids(DATASETS.build(export_dataset_cfg(cfg, str(names)))) == ['train_5', 'train_2']
    assert image_ids(DATASETS.build(export_dataset_cfg(cfg, 'val'))) == ['val_0', 'val_1']
    repeated = deepcopy(cfg)
    repeated.train_dataloader.dataset = dict(type='RepeatDataset', times=3, dataset=cfg.train_dataloader.dataset)
    assert export_dataset_cfg(repeated, 'train')['type'] == 'WeakVOCDataset'
    repeated.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[cfg.train_dataloader.dataset])
    with pytest.raises(ExportError, match='joins several datasets'):
        export_dataset_cfg(repeated, 'train')
    with pytest.raises(ExportError, match=r'split gone\.txt is neither'):
        export_dataset_cfg(cfg, 'gone.txt')
    with pytest.raises(ExportError, match='no val_dataloader'):
        export_dataset_cfg(Config({'train_dataloader': cfg.train_dataloader}), 'val')
    with pytest.raises(ExportError, match='no test_dataloader or val_dataloader'):
        export_dataset_cfg(Config({'train_dataloader': cfg.train_dataloader}), 'train')
    names.write_text('train_5\nnowhere\n')
    with pytest.raises(DatasetError, match='nowhere'):
        DATASETS.build(export_dataset_cfg(cfg, str(names)))


def test_annotations_of_mmseg_are_dropped_too():
    pipeline = [dict(type='LoadImageFromFile'), dict(type='mmseg.LoadAnnotations'), dict(type='PackSegInputs')]
    assert [step['type'] for step in without_annotations(pipeline)] == ['LoadImageFromFile', 'PackSegInputs']


def test_palette():
    metainfo = {'classes': ('background', 'a'), 'palette': [(0, 0, 0), (224, 224, 192)]}
    palette = mask_palette(metainfo, 255)
    assert len(palette) == 256
    assert palette[:2] == [[0, 0, 0], [224, 224, 192]]
    assert palette[255] == [255, 255, 255]
    assert len(mask_palette(metainfo, 2)) == 3
    assert mask_palette({'classes': ('background', 'a', 'b')}, 255)[2] == [0, 128, 0]
    for ignore_index in (1, 256):
        with pytest.raises(ExportError, match='do not fit'):
            mask_palette(metainfo, ignore_index)


def test_ignored_pixels_take_the_index_of_the_dataset(model, dataset, tmp_path, monkeypatch):
    def ignoring(*args):
        state = type(model).pseudo_label(model, *args)
        state.mask[:, 0] = 255
        return state

    monkeypatch.setattr(model, 'pseudo_label', ignoring)
    monkeypatch.setattr(dataset, 'ignore_index', 40)
    monkeypatch.setattr('mmwsss.pseudo_labels.manifest.truth_reader', lambda dataset: None)
    result = run(model, dataset, tmp_path)
    mask = np.asarray(Image.open(result.masks / 'train_0.png'))
    assert set(mask[0]) == {40}
    assert mask[1:].max() < 21
    assert 'background' in result.manifest['images']['train_0']['classes']


def test_other_networks_are_refused(dataset, tmp_path):
    with pytest.raises(ExportError, match='Linear makes no localization maps'):
        run(torch.nn.Linear(1, 1), dataset, tmp_path)


@pytest.mark.parametrize('method', ['vitpcm', 'cam'])
@pytest.mark.parametrize('recipe', ['raw', 'par', 'crf', 'cvs_ppmg'])
def test_recipes_fit_maps_with_and_without_background(cfg, tmp_path, method, recipe):
    data_root = cfg.train_dataloader.dataset.data_root
    own = tiny_config(CONFIGS / f'{method}_voc12mini.py', data_root, tmp_path)
    own.model.pseudo_labeler = Config.fromfile(CONFIGS / '_base_' / 'pseudo_labels' / f'{recipe}.py').pseudo_labeler
    torch.manual_seed(0)
    model = MODELS.build(own.model)
    dataset = DATASETS.build(export_dataset_cfg(own, 'val'))
    result = run(model, dataset, tmp_path / 'out', workers=2)
    for index, (name, entry) in enumerate(result.manifest['images'].items()):
        shape = np.asarray(Image.open(result.masks / f'{name}.png')).shape
        assert shape == truth_reader(dataset)(index).shape
        assert set(entry['classes']) <= {'background', *entry['image_labels']}
        assert set(entry['classes']) & set(entry['image_labels'])
    assert 0 <= result.manifest['scores']['pseudo_mIoU+tags'] <= 100
