"""Masks that are renewed within a training: what is read when, interrupted runs, two processes."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import shutil
import signal
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cyclic_cases import (
    IMAGES,
    LENGTH,
    MasksSeenHook,
    assert_same_masks,
    assert_same_weights,
    configured,
    hook_of,
    read,
    round_of,
    train,
)
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from processes import start_ranks
from tiny_configs import write_data

from mmwsss.apis.checkpoints import latest_checkpoint
from mmwsss.engine.hooks import CyclicPseudoMaskHook
from mmwsss.engine.hooks.cyclic_rounds import weights_sha256
from mmwsss.pseudo_labels import export
from mmwsss.registry import DATASETS


@pytest.fixture(scope='module')
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'), 'ShapesDataset', train=IMAGES)


@pytest.fixture
def make_config(data_root: Path, tmp_path: Path):
    return partial(configured, data_root, tmp_path)


@pytest.fixture(scope='module')
def plain(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """A training without renewals, which has ended."""
    cfg = configured(data_root, tmp_path_factory.mktemp('plain'), 'run')
    cfg.custom_hooks = [entry for entry in cfg.custom_hooks if entry.type != 'CyclicPseudoMaskHook']
    runner = train(cfg)
    gc.collect()
    gc.freeze()  # mmengine collects garbage whenever it builds a data set, by now among all that trainings import
    return runner


@pytest.fixture(scope='module')
def renewed(plain: Runner, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Runner]:
    """A training with a renewal after the third iteration, which has ended, in the folder ``renewed``."""
    cfg = configured(data_root, tmp_path_factory.mktemp('renewed'), 'renewed')
    return cfg, train(cfg)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_training_reads_the_new_masks_from_the_next_iteration(
    make_config, plain, renewed, data_root, num_workers
) -> None:
    before = hook_of(plain, MasksSeenHook).seen
    runner = train(make_config('renewed', num_workers=num_workers)) if num_workers else renewed[1]
    after = hook_of(runner, MasksSeenHook).seen
    assert [after[i].keys() for i in range(LENGTH)] == [before[i].keys() for i in range(LENGTH)], 'the same order'
    changed = [any(not np.array_equal(after[i][name], before[i][name]) for name in before[i]) for i in range(LENGTH)]
    assert changed == [False] * 3 + [True] * 3

    folder = round_of('renewed', Path(runner.work_dir).parent)
    pointer = json.loads((folder.parent / 'current.json').read_text())
    assert pointer == dict(round=1, iteration=3, masks='round-0001/masks')
    manifest = json.loads((folder / 'manifest.json').read_text())
    assert manifest['checkpoint']['iteration'] == 3
    assert manifest['scores'].keys() == {'pseudo_mIoU'}
    truth = read(data_root / 'SegmentationClass')
    assert any(not np.array_equal(mask, truth[name]) for name, mask in read(folder / 'masks').items())
    dataset = runner.train_dataloader.dataset
    assert Path(dataset.get_data_info(0)['seg_map_path']).parent == folder / 'masks'
    assert len(multiprocessing.active_children()) == num_workers, 'those of the old loader have ended'
    if num_workers:
        runner.train_dataloader._iterator._shutdown_workers()


def test_masks_are_those_of_the_checkpoint_with_the_settings_of_the_hook(renewed) -> None:
    cfg, runner = renewed
    folder, hook = Path(cfg.work_dir).parent, cfg.custom_hooks[1]
    model = deepcopy(runner.model)
    checkpoint = torch.load(folder / 'renewed' / 'iter_3.pth', weights_only=True)
    assert checkpoint['meta']['iter'] == 3
    model.load_state_dict(checkpoint['state_dict'])
    manifest = json.loads((round_of('renewed', folder) / 'manifest.json').read_text())
    assert manifest['checkpoint']['sha256'] == weights_sha256(model)
    assert model.test_cfg['views'] is None
    assert model.pseudo_labeler is None
    own = hook_of(runner, CyclicPseudoMaskHook)
    model.eval()
    model.test_cfg.update(hook.test_cfg)
    model.pseudo_labeler = own.labeler
    dataset, found = DATASETS.build(own._dataset_cfg), read(round_of('renewed', folder) / 'masks')
    for index in range(IMAGES):
        (sample,) = model.test_step(pseudo_collate([dataset[index]]))
        assert np.array_equal(found[sample.img_id], sample.pred_sem_seg.data[0].numpy())


def test_image_labels_and_the_average_of_the_weights(make_config, tmp_path) -> None:
    cfg = make_config('renewed', at=(), epochs=[1.5])  # of 8 images, 4 a step
    cfg.custom_hooks[1].test_cfg.use_image_labels = True
    cfg.custom_hooks.append(dict(type='EMAHook', momentum=0.5))
    runner = train(cfg)
    manifest = json.loads((round_of('renewed', tmp_path) / 'manifest.json').read_text())
    assert manifest['used_image_labels']
    for image in manifest['images'].values():
        assert set(image['classes']) <= {'background', *image['image_labels']}
    checkpoint = torch.load(tmp_path / 'renewed' / 'iter_3.pth', weights_only=True)
    model = hook_of(runner, EMAHook).ema_model.module
    model.load_state_dict(checkpoint['state_dict'])  # EMAHook saves the average under this name
    assert manifest['checkpoint']['sha256'] == weights_sha256(model)
    names = {name for name, value in checkpoint['state_dict'].items() if value.is_floating_point()}
    others = {name.removeprefix('module.'): value for name, value in checkpoint['ema_state_dict'].items()}
    assert any(not torch.equal(others[name], checkpoint['state_dict'][name]) for name in names)


def _train_until_killed(cfg: Config, masks: int) -> None:
    """Train and die by SIGKILL in the middle of the renewal, after so many masks."""
    torch.set_num_threads(1)  # a fork's thread pool is made anew: here, not by the first of many threads
    write, written = export.write_palette_png, []

    def count(*args: Any) -> None:
        if len(written) == masks:
            os.kill(os.getpid(), signal.SIGKILL)
        write(*args)
        written.append(args[0])

    export.write_palette_png = count
    train(cfg)


@pytest.mark.parametrize('ema', [False, True])
def test_killed_in_a_renewal_and_later(make_config, tmp_path: Path, ema: bool) -> None:
    def config(name: str) -> Config:
        cfg = make_config(name, at=(2, 3))
        if ema:
            cfg.custom_hooks.append(dict(type='EMAHook', momentum=0.5))
        return cfg

    straight = train(config('straight'))
    process = multiprocessing.get_context('fork').Process(
        target=_train_until_killed, args=(config('killed'), IMAGES + 3)
    )
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    folder = round_of('killed', tmp_path, 2)
    pointer = folder.parent / 'current.json'
    assert json.loads(pointer.read_text())['round'] == 1
    left = {path.name: path.stat().st_mtime_ns for path in (folder / 'masks').glob('*.png')}
    assert len(left) == 3
    assert latest_checkpoint(tmp_path / 'killed').endswith('iter_3.pth')

    resumed = train(config('killed'), resume=True)
    assert json.loads(pointer.read_text())['round'] == 2
    assert {name: (folder / 'masks' / name).stat().st_mtime_ns for name in left} == left, 'not made again'
    for number in (1, 2):
        assert_same_masks(round_of('killed', tmp_path, number), round_of('straight', tmp_path, number))
    assert_same_weights(resumed, straight)

    if ema:
        return
    (tmp_path / 'killed' / 'last_checkpoint').write_text(str(tmp_path / 'killed' / 'iter_4.pth'))
    later = train(config('killed'), resume=True)
    assert sorted(hook_of(later, MasksSeenHook).seen) == [4, 5]
    assert_same_weights(later, straight)


def test_masks_of_another_training_are_replaced(make_config, tmp_path: Path) -> None:
    hashes = []
    for seed in (1, 7):
        cfg = make_config('run')
        cfg.randomness.seed = seed
        cfg.train_cfg.max_iters = 4
        model = train(cfg).model
        model.load_state_dict(torch.load(tmp_path / 'run' / 'iter_3.pth', weights_only=True)['state_dict'])
        manifest = json.loads((round_of('run', tmp_path) / 'manifest.json').read_text())
        assert manifest['checkpoint']['sha256'] == weights_sha256(model)
        assert manifest['runs'][-1]['num_written'] == IMAGES
        hashes.append(manifest['checkpoint']['sha256'])
    assert hashes[0] != hashes[1]


def test_resuming_without_the_masks_is_an_error(make_config, renewed, tmp_path: Path) -> None:
    shutil.copytree(renewed[0].work_dir, tmp_path / 'run')
    (round_of('run', tmp_path) / 'manifest.json').unlink()
    (tmp_path / 'run' / 'last_checkpoint').write_text(str(tmp_path / 'run' / 'iter_4.pth'))
    with pytest.raises(FileNotFoundError, match='trained on the masks of round 1'):
        train(make_config('run'), resume=True)


def _rank(rank: int, cfg: Config) -> dict[str, Any]:
    cfg.launcher = 'pytorch'
    cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)
    cfg.train_dataloader.batch_size = 4 // 2
    runner = train(cfg)
    seen = {i: sorted(masks) for i, masks in hook_of(runner, MasksSeenHook).seen.items()}
    return dict(weights=runner.model.module.state_dict(), seen=seen)


def test_two_processes_equal_one(make_config, tmp_path: Path) -> None:
    def config(name: str) -> Config:
        cfg = make_config(name)
        cfg.model.decode_head.update(dropout_ratio=0, norm_cfg=None)  # batch statistics are those of a process
        cfg.model.decode_head.loss_decode.form = 'none'  # and so is the mean that PUF decides by
        return cfg

    alone = train(config('alone'))
    found = start_ranks(_rank, 2, tmp_path, config('two'))
    seen = {i: sorted(masks) for i, masks in hook_of(alone, MasksSeenHook).seen.items()}
    assert {i: sorted(found[0]['seen'][i] + found[1]['seen'][i]) for i in seen} == seen
    manifest = json.loads((round_of('two', tmp_path) / 'manifest.json').read_text())
    assert manifest['runs'][-1]['written_by_rank'] == [IMAGES // 2, IMAGES // 2]
    assert_same_masks(round_of('two', tmp_path), round_of('alone', tmp_path))
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(found[0]['weights'][name], value, atol=1e-5, rtol=1e-4, msg=name)
        assert torch.equal(found[0]['weights'][name], found[1]['weights'][name]), name


def test_mistakes(make_config, tmp_path: Path) -> None:
    for settings in (dict(), dict(at=[3, 2]), dict(at=[0]), dict(at=[2], epochs=[1])):
        with pytest.raises(ValueError, match='takes increasing numbers as at or as epochs'):
            CyclicPseudoMaskHook(**settings)
    cfg = make_config('loop')
    cfg.train_cfg.type = 'IterBasedTrainLoop'
    with pytest.raises(TypeError, match=r'needs train_cfg\.type ResumableIterBasedTrainLoop, got IterBasedTrainLoop'):
        train(cfg)
    cfg = make_config('model')
    cfg.model.type = 'EncoderDecoder'
    with pytest.raises(TypeError, match=r'set model\.type=MultiViewEncoderDecoder'):
        train(cfg)
    cfg = make_config('views', test_cfg=dict(views=dict(scales=())))
    with pytest.raises(ValueError, match='views needs positive scales'):
        train(cfg)
