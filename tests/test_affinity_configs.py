"""The configs of affinity networks: what they are made of, and a training that a random walk uses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from pmm_cases import AFFINITY_TRAINED, labels_step, write_exports
from tiny_configs import CONFIGS, REPOSITORY, classes_of, load_config, write_data

from mmwsss.models.backbones.token_vit import ARCHITECTURES
from mmwsss.pseudo_labels.labeler import LabelState, PseudoLabeler
from mmwsss.registry import MODELS

PATHS = sorted((CONFIGS / 'pmm').glob('affinity_*.py'))
RECIPES = CONFIGS / '_base_' / 'pseudo_labels'
WIDTH, CROP = 16, 48


def test_there_are_affinity_configs() -> None:
    assert len(PATHS) >= 6
    assert {path for path in PATHS if 'voc12aug' not in path.stem} == {*AFFINITY_TRAINED}


@pytest.mark.parametrize('path', PATHS, ids=lambda path: path.stem)
def test_parts_fit_together(path: Path) -> None:
    cfg = load_config(path)
    gpus, per_gpu, length, size = map(int, re.search(r'_(\d+)xb(\d+)-(\d+)_[a-z0-9]+-(\d+)x', path.stem).groups())
    step = labels_step(cfg)
    assert (cfg.train_dataloader.batch_size, gpus * per_gpu) == (per_gpu, 16)
    assert (cfg.train_cfg.max_iters, cfg.param_scheduler[0].max_iters) == (length, length)
    assert step.crop_size == size
    assert 'val_dataloader' not in cfg
    assert cfg.train_dataloader.dataset.data_prefix.seg_map_path is None, 'no true masks'
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
        backbone = model.backbone
        if hasattr(backbone, 'embed_dims'):
            assert max(backbone.out_indices) == backbone.num_layers - 1, 'the last block'
        features = model(torch.empty(1, 3, size, size))
    cells = size // step.get('stride', 8)
    assert tuple(features.shape) == (1, sum(cfg.model.head.tap_channels), cells, cells)
    if path in AFFINITY_TRAINED:
        assert list(cfg.model.head.in_channels) == [ARCHITECTURES[cfg.model.backbone.arch]['embed_dims']] * len(
            cfg.model.in_index
        )


@pytest.mark.parametrize('path', [path for path in PATHS if path.stem.endswith('_released')], ids=lambda p: p.stem)
def test_the_release_differs_in_few_settings(path: Path) -> None:
    cfg = load_config(path)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (0.02, 5e-4, 5e-4)
    stem = path.stem.replace('_1xb16', '_4xb4').removesuffix('_released')
    expected = load_config(path.with_stem(stem))
    expected.optim_wrapper.optimizer.update(lr=0.02, momentum=5e-4)
    expected.train_dataloader.batch_size = 16
    if expected.model.backbone.type == 'ScaleNet':
        expected.model.backbone.official_small_pool = True
    assert cfg.to_dict() == expected.to_dict()


def test_both_exports_differ_in_the_exponent_only() -> None:
    low, high = (load_config(RECIPES / f'psa_{name}.py').pseudo_labeler.steps for name in ('low', 'high'))
    changed = [(a, b) for a, b in zip(low, high) if a != b]
    assert changed == [(dict(type='AddBackground', power=4.0), dict(type='AddBackground', power=32.0))]


@pytest.mark.parametrize('path', AFFINITY_TRAINED, ids=lambda path: path.stem)
def test_trains_and_a_walk_uses_it(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = load_config(path)
    blocks = len(cfg.model.in_index)
    cfg.model.backbone.update(
        arch=dict(embed_dims=WIDTH, num_layers=blocks, num_heads=2, feedforward_channels=32),
        out_indices=list(range(blocks)),
        init_cfg=None,
    )
    cfg.model.head.update(in_channels=[WIDTH] * blocks, tap_channels=[4] * blocks)
    data = cfg.train_dataloader.dataset
    data.data_root = str(write_data(tmp_path / 'data', data.type))
    cfg.train_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False)
    labels_step(cfg).crop_size = CROP
    write_exports(cfg, tmp_path)
    cfg.train_cfg.update(max_iters=3, val_interval=3)
    cfg.param_scheduler[0].warmup_iters = 0
    cfg.update(work_dir=str(tmp_path / 'work'), log_level='ERROR', experiment_name=f'affinity_{data.type}')
    cfg.visualizer.name = cfg.experiment_name  # visualizers are shared by name
    runner = Runner.from_cfg(cfg)
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    runner.train()
    after = runner.model.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    assert not any(torch.equal(value, before[name]) for name, value in after.items() if name.startswith('head.'))
    assert runner.message_hub.get_scalar('train/loss_affinity').current() > 0

    cfg.dump(tmp_path / 'affinity.py')
    monkeypatch.setenv('MMWSSS_AFFINITY_CONFIG', str(tmp_path / 'affinity.py'))
    monkeypatch.setenv('MMWSSS_AFFINITY_CHECKPOINT', str(tmp_path / 'work'))
    monkeypatch.chdir(REPOSITORY)
    labeler = PseudoLabeler(**Config.fromfile(RECIPES / 'psa_walk.py').pseudo_labeler)
    classes = len(classes_of(cfg)) - 1
    labels = torch.zeros(1, classes)
    labels[0, 0] = 1
    maps, images = torch.rand(1, classes, 6, 7), torch.randint(0, 256, (1, 3, 44, 50))
    state = LabelState(maps=maps, has_background=False, size=(44, 50), images=images, labels=labels)
    mask = labeler(state).mask
    assert mask.shape == (1, 44, 50)
    assert set(mask.unique().tolist()) <= {0, 1}


@pytest.mark.parametrize('has_background', [False, True])
def test_a_strong_background_leaves_less_foreground(has_background: bool) -> None:
    torch.manual_seed(0)
    maps = torch.rand(1, 3, 8, 9)
    images = torch.randint(0, 256, (1, 3, 40, 45), dtype=torch.uint8)
    kept, shares = torch.tensor([[0.0, 1.0, 0.0]]), []
    if has_background:
        maps = torch.cat((torch.full_like(maps[:, :1], 0.9), maps), dim=1)
    for name in ('low', 'high'):
        labeler = PseudoLabeler(**load_config(RECIPES / f'psa_{name}.py').pseudo_labeler)
        state = labeler(LabelState(maps=maps, has_background=has_background, size=(40, 45), images=images, labels=kept))
        assert state.has_background
        assert state.maps.shape == (1, 4, 40, 45)
        assert set(state.mask.unique().tolist()) <= {0, 2}
        shares.append((state.mask == 2).float().mean().item())
    assert shares[0] < shares[1]
