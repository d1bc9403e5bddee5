"""A training goes on without images that break in the middle of it, and says so at its end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from resume_cases import HALF, LENGTH, assert_equal, cut, make_config, state_of
from tiny_configs import write_data

from mmwsss.apis import launch
from mmwsss.datasets import DatasetError
from mmwsss.registry import HOOKS


@HOOKS.register_module()
class BreakingHook(Hook):
    """Empties the file of every image but the first in the iteration ``at``, counted from 1."""

    def __init__(self, at: int) -> None:
        self.at = at

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.at:
            data = runner.train_dataloader.dataset
            for index in range(1, len(data)):
                Path(data.get_data_info(index)['img_path']).write_bytes(b'')


def config(data: Path, folder: Path, skip: bool = True):
    cfg = make_config('vitpcm', data, folder)
    cfg.train_dataloader.dataset.skip_corrupt = skip
    cfg.custom_hooks.append(dict(type='BreakingHook', at=HALF))
    return cfg


def test_it_goes_on_and_the_same_when_resumed(tmp_path: Path) -> None:
    data = write_data(tmp_path, 'ShapesDataset')
    straight = config(data, tmp_path / 'straight')
    launch.train(straight)
    listed = (tmp_path / 'straight' / 'corrupt_images.txt').read_text().splitlines()
    assert listed
    assert all(Path(path).stat().st_size == 0 for path in listed)
    log = next((tmp_path / 'straight').glob('2*/*.log')).read_text() if straight.log_level != 'ERROR' else ''
    assert not log or 'corrupt images were replaced by others' in log
    cut(tmp_path / 'straight', tmp_path / 'resumed')
    resumed = config(data, tmp_path / 'resumed')
    resumed.update(load_from=str(tmp_path / 'resumed' / f'iter_{HALF}.pth'), resume=True)
    launch.train(resumed)
    states = [state_of(tmp_path / name, LENGTH) for name in ('straight', 'resumed')]
    assert_equal(*states)
    assert all(value.isfinite().all() for value in states[0].values() if value.dtype.is_floating_point)
    assert isinstance(states[0]['/state_dict/head.classifier.weight'], torch.Tensor)


def test_without_it_the_training_ends_with_the_name_of_the_file(tmp_path: Path) -> None:
    cfg = config(write_data(tmp_path, 'ShapesDataset'), tmp_path / 'work', skip=False)
    with pytest.raises(DatasetError, match=r'\.jpg cannot be read: the file is empty; replace the file'):
        launch.train(cfg)
