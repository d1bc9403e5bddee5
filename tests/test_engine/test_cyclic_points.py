"""Settings of the renewal of masks, and folders, that are refused before a training begins or goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from pmm_cases import CYCLIC_TRAINED
from tiny_configs import tiny_config, write_data

from mmwsss.engine.hooks import CyclicPseudoMaskHook
from mmwsss.pseudo_labels.export_data import ExportError
from mmwsss.utils.files import write_json


@pytest.fixture(scope='module')
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'), 'ShapesDataset', train=4)


def config(data_root: Path, work_dir: Path, **hook) -> Config:
    cfg = tiny_config(CYCLIC_TRAINED, data_root, work_dir)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False, batch_size=2)
    cfg.custom_hooks[-1] = {**cfg.custom_hooks[-1], 'at': [2, 4], 'num_workers': 0, 'workers': 0, **hook}
    cfg.train_cfg.update(max_iters=6, val_begin=100)
    return cfg


def begin(cfg: Config, iteration: int, trained_on: str | None = None) -> Runner:
    """What the hook does before a training that goes on after ``iteration`` and masks of the weights ``trained_on``."""
    runner = Runner.from_cfg(cfg)
    runner._train_loop = runner.build_train_loop(cfg.train_cfg)
    runner.train_loop._iter = iteration
    if trained_on is not None:
        runner.message_hub.update_info('cyclic_masks', trained_on)
    next(hook for hook in runner.hooks if isinstance(hook, CyclicPseudoMaskHook)).before_train(runner)
    return runner


def test_a_resumed_run_keeps_its_points(data_root: Path, tmp_path: Path) -> None:
    pointer = tmp_path / 'cyclic_masks' / 'current.json'
    pointer.parent.mkdir()
    write_json(pointer, dict(round=1, iteration=3, masks='round-0001/masks'))
    for settings in (dict(at=[4]), dict(at=None, epochs=[2])):  # two epochs were 3 iterations of other processes
        with pytest.raises(ValueError, match=r'renewed at iteration 3, which is none of \[4\]'):
            begin(config(data_root, tmp_path, **settings), iteration=3)
    begin(config(data_root, tmp_path, at=[4]), iteration=2)  # an older checkpoint: that renewal is still to come
    assert not pointer.exists()


def test_image_labels_need_a_source(data_root: Path, tmp_path: Path) -> None:
    settings = dict(test_cfg=dict(use_image_labels=True))
    with pytest.raises(ValueError, match='use_image_labels of CyclicPseudoMaskHook needs a source'):
        begin(config(data_root, tmp_path, dataset=dict(), **settings), iteration=0)
    begin(config(data_root, tmp_path, **settings), iteration=0)


def test_points_are_distinct_iterations(data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'are the iterations \[2, 2\], one of them twice'):
        CyclicPseudoMaskHook(at=[2.2, 2.8])
    with pytest.raises(ValueError, match=r'\[1, 1\.1\] are the iterations \[2, 2\]'):  # 4 images, 2 a step
        begin(config(data_root, tmp_path, at=None, epochs=[1, 1.1]), iteration=0)


def test_the_first_image_is_tried_before_the_training(data_root: Path, tmp_path: Path) -> None:
    cfg = config(data_root, tmp_path, steps=[dict(type='ProportionalMask')])
    with pytest.raises(ExportError, match=r'CyclicPseudoMaskHook: pseudo mask of train_00000: ProportionalMask'):
        begin(cfg, iteration=0)
    cfg = config(data_root, tmp_path, test_cfg=dict(use_image_labels=True))
    cfg.test_dataloader.dataset.pipeline[-1] = dict(type='PackSegInputs')
    with pytest.raises(ExportError, match=r'pseudo mask of train_00000: .*carries no image_labels'):
        begin(cfg, iteration=0)
    assert not (tmp_path / 'cyclic_masks').exists()


def test_a_finished_run_renews_nothing(data_root: Path, tmp_path: Path) -> None:
    begin(config(data_root, tmp_path, at=[2, 6]), iteration=6)
    assert not (tmp_path / 'cyclic_masks').exists()


def test_folders_of_other_masks_are_named(data_root: Path, tmp_path: Path) -> None:
    base = dict(test_cfg=dict(views=dict(scales=(1.0,), flip=True, base=(48, 48))))
    runner = begin(config(data_root, tmp_path, **base), iteration=2)
    folder = tmp_path / 'cyclic_masks' / 'round-0001'
    manifest = json.loads((folder / 'manifest.json').read_text())
    assert manifest['protocol'] == 'views at scales 1 with mirror images; image labels used for: nothing'
    weights = manifest['checkpoint']['sha256']
    assert runner.message_hub.get_info('cyclic_masks') == weights

    begin(config(data_root, tmp_path, **base), iteration=3, trained_on=weights)
    with pytest.raises(ValueError, match=rf'{folder} holds masks of other weights than those that the run was trained'):
        begin(config(data_root, tmp_path, **base), iteration=3, trained_on='0' * 64)
    with pytest.raises(
        ExportError, match=rf'round 1 of masks in {folder}: .*differs in: .*; remove {folder}'
    ) as caught:
        begin(config(data_root, tmp_path), iteration=2)
    assert '--overwrite' not in str(caught.value)
