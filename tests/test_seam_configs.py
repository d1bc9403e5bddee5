"""The configs of SEAM in PMM: what they are made of, and trainings at a tiny size, the second on maps of the first."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from pmm_cases import MULTI_CROP_TRAINED, SEAM_TRAINED
from tiny_configs import CONFIGS, classes_of, load_config, tiny_config, write_data

from mmwsss.models.backbones.token_vit import ARCHITECTURES
from mmwsss.pseudo_labels.export import export_pseudo_labels
from mmwsss.pseudo_labels.export_data import export_dataset_cfg
from mmwsss.pseudo_labels.labeler import LabelState, PseudoLabeler
from mmwsss.pseudo_labels.manifest import ExportSource
from mmwsss.registry import DATASETS, MODELS

PATHS = sorted((CONFIGS / 'pmm').glob('seam_*.py'))
SMALL = [path for path in PATHS if 'vit-xt8' in path.stem or 'deit-t16' in path.stem]
RECIPES = CONFIGS / '_base_' / 'pseudo_labels'
NETWORKS = ('resnet38d', 'scalenet50', 'scalenet101', 'res2net101')
WIDE = {'resnet38d': 4096, 'scalenet50': 2048, 'scalenet101': 2048, 'res2net101': 2048}
CROP, STRIDE = 32, 24


def steps_of(cfg: Config) -> list[str]:
    return [step.type for step in cfg.train_dataloader.dataset.pipeline]


@pytest.mark.parametrize('path', PATHS, ids=lambda path: path.stem)
def test_names_say_what_is_in_them(path: Path) -> None:
    cfg = load_config(path)
    gpus, per_gpu, length, side = re.search(r'_(\d+)xb(\d+)-(\d+k?)_[a-z0-9]+-(\d+)x', path.stem).groups()
    images = {'3520': 24, '13k': 16, '205k': 8, '600': 8, '1300': 8}[length]
    assert (cfg.train_dataloader.batch_size, int(gpus) * int(per_gpu)) == (int(per_gpu), images)
    max_iters = cfg.train_cfg.max_iters
    assert length in {str(max_iters), f'{max_iters // 1000}k'}
    assert cfg.param_scheduler[0].max_iters == cfg.train_cfg.val_interval == max_iters
    assert cfg.model.head.num_classes == len(classes_of(cfg))
    assert ('MultiCropSample' in steps_of(cfg)) == ('mc-train' in path.stem)
    crops = 'mc-' in path.stem or 'coco' in path.stem
    views = cfg.model.test_cfg.views
    assert (views.get('type') == 'multi_crop') == crops
    sides = {step.get('size', step.get('crop_size')) for step in cfg.train_dataloader.dataset.pipeline} - {None}
    assert sides == {int(side)}
    if crops:
        assert views.crop_size == int(side)
    if 'mc-train' in path.stem:
        sample = cfg.train_dataloader.dataset.pipeline[1]
        assert (sample.type, sample.scales, sample.stride) == ('MultiCropSample', views.scales, views.stride)
        assert cfg.train_dataloader.dataset.pipeline[-2].scale == (int(side), int(side))


@pytest.mark.parametrize('path', [path for path in PATHS if path.stem.endswith('_released')], ids=lambda p: p.stem)
def test_the_release_differs_in_few_settings(path: Path) -> None:
    expected, cfg = load_config(path.with_stem(path.stem.removesuffix('_released'))), load_config(path)
    sound = expected.optim_wrapper.optimizer
    sound.update(lr=10 * sound.lr, momentum=sound.weight_decay)
    if expected.model.backbone.type == 'ScaleNet':
        expected.model.backbone.official_small_pool = True
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(sound.lr)
    cfg.optim_wrapper.optimizer.lr = sound.lr
    assert cfg.to_dict() == expected.to_dict()


@pytest.mark.parametrize('network', NETWORKS)
def test_every_row_of_a_network_is_there(network: str) -> None:
    stems = [path.stem for path in PATHS if path.stem.startswith(f'seam_{network}_') and 'voc12aug' in path.stem]
    rows = {re.search(r'448x448(.*)', stem)[1] for stem in stems}
    assert {'', '_mc-test', '_mc-train'} <= rows
    cfg = load_config(CONFIGS / 'pmm' / f'seam_{network}_8xb3-3520_voc12aug-448x448.py')
    assert cfg.model.head.in_channels == (512, 1024, WIDE[network])
    cfg.model.backbone.init_cfg = None
    # The first one draws numbers as it is built, which takes memory.
    with torch.device('cpu' if network == 'res2net101' else 'meta'):
        model = MODELS.build(cfg.model).to('meta').eval()
        images = torch.empty(1, 3, 64, 64, device='meta')
        features = model.backbone(images)
        assert [tuple(features[i].shape[1:]) for i in model.in_index] == [
            (width, 8, 8) for width in cfg.model.head.in_channels
        ]
        cam, refined = model.maps_of(images)
    assert cam.shape == refined.shape == (1, 21, 64, 64)


def tiny(path: Path, root: Path, work_dir: Path) -> Config:
    """A config of a transformer at a tiny size."""
    cfg = tiny_config(path, write_data(root, load_config(path).train_dataloader.dataset.type), work_dir)
    if cfg.model.test_cfg.views.get('type') == 'multi_crop':
        cfg.model.test_cfg.views.update(scales=(0.75, 1.5), crop_size=CROP, stride=STRIDE)
    return cfg


def test_small_ones_read_the_last_block() -> None:
    assert len(SMALL) == 6
    for path in SMALL:
        cfg = load_config(path)
        depth, width = (ARCHITECTURES[cfg.model.backbone.arch][key] for key in ('num_layers', 'embed_dims'))
        assert max(cfg.model.backbone.out_indices) == depth - 1
        assert (cfg.model.in_index, cfg.model.head.in_channels) == ((0, 1, 1), width)


@pytest.mark.parametrize(('one', 'two'), zip(SEAM_TRAINED, MULTI_CROP_TRAINED), ids=['shapes', 'voc12mini'])
def test_the_second_training_follows_maps_of_the_first(one: Path, two: Path, tmp_path: Path, monkeypatch) -> None:
    first = tiny(one, tmp_path, tmp_path / 'first')
    runner = Runner.from_cfg(first)
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    runner.train()
    after = runner.model.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    for part in ('backbone.', 'head.fc8', 'head.f9', 'head.f8_3'):
        assert any(not torch.equal(after[name], before[name]) for name in before if name.startswith(part)), part
    scores = runner.test()
    assert {'maps_mIoU+tags', 'pseudo_mIoU+tags', 'mAP'} <= scores.keys()

    model, dataset = runner.model, DATASETS.build(export_dataset_cfg(first, 'train'))
    recipe = Config.fromfile(RECIPES / 'pmm_heat.py').pseudo_labeler.steps
    monkeypatch.setattr(model, 'pseudo_labeler', PseudoLabeler(recipe))
    source = ExportSource('a.py', 'c0', 'train')
    export_pseudo_labels(model, dataset, tmp_path / 'heat', source, progress=False, store_maps=True)

    second = tiny(two, tmp_path, tmp_path / 'second')
    sample = second.train_dataloader.dataset.pipeline[1]
    sample.update(maps_dir=str(tmp_path / 'heat' / 'maps'), scales=(1.0, 2.0), crop_size=CROP, stride=STRIDE)
    runner = Runner.from_cfg(second)
    item = runner.train_dataloader.dataset[0]
    side = second.train_dataloader.dataset.pipeline[-2].scale[0]
    assert (tuple(item['inputs'].shape), item['inputs'].dtype) == ((3, side, side), torch.uint8)
    runner.train()
    scores = runner.test()
    assert 0 <= scores['maps_mIoU+tags'] <= 100
    assert np.isfinite(scores['mAP'])


@pytest.mark.parametrize('recipe', ['pmm_heat', 'pmm_released', 'cvs_ppmg'])
@pytest.mark.parametrize('background', [False, True])
def test_recipes_take_maps_with_and_without_background(recipe: str, background: bool) -> None:
    labeler = PseudoLabeler(Config.fromfile(RECIPES / f'{recipe}.py').pseudo_labeler.steps)
    maps = torch.zeros(1, 3 + background, 8, 10)
    maps[:, 0 + background, 2:6, 1:6] = 1
    maps[:, 1 + background, :, 6:] = 0.9
    maps[:, 2 + background] = 1
    images = torch.zeros(1, 3, 16, 20, dtype=torch.uint8)
    images[..., 4:12, 2:12] = 200
    images[..., :, 12:] = 90
    state = labeler(LabelState(maps, background, (16, 20), images=images, labels=torch.tensor([[1.0, 1.0, 0.0]])))
    assert state.mask.shape == (1, 16, 20)
    assert state.mask.unique().tolist() == [0, 1, 2]
    assert (state.mask[0, 6:10, 4:9] == 1).all()
    assert (state.mask[0, :, 15:] == 2).all()
