"""Mistakes in a config stop the first iteration, or the start, with one line that names the setting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from tiny_configs import CONFIGS, tiny_config, write_data

from mmwsss.apis import launch


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('data')


@pytest.fixture
def cfg(data_dir: Path, tmp_path: Path) -> Config:
    return tiny_config(CONFIGS / 'vitpcm_shapes.py', write_data(data_dir, 'ShapesDataset'), tmp_path)


def uneven_batch(cfg: Config) -> None:
    cfg.train_dataloader.batch_size = 6


def other_classes(cfg: Config) -> None:
    cfg.model.head.num_classes = 21


def one_view(cfg: Config) -> None:
    (step,) = [step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'TwoViews']
    step.second_view = False


def no_labels(cfg: Config) -> None:
    cfg.train_dataloader.dataset.label_source = None


@pytest.mark.parametrize(
    ('mistake', 'message'),
    [
        (uneven_batch, r'batch that is a multiple of 4, got 6; set batch_size'),
        (other_classes, r'expected 20 image labels .* got \(6,\); make num_classes of the head equal'),
        (one_view, r'loss_et needs two views .* set second_view=True of TwoViews'),
        (no_labels, r'carries no image_labels; use a weak dataset'),
    ],
)
def test_first_iteration_names_the_setting(cfg: Config, tmp_path: Path, mistake: Callable, message: str) -> None:
    mistake(cfg)
    with pytest.raises(ValueError, match=message) as caught:
        Runner.from_cfg(cfg).train()
    assert '\n' not in str(caught.value)
    assert not list(tmp_path.glob('*.pth'))


def test_missing_weights_of_the_backbone(cfg: Config, tmp_path: Path) -> None:
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'gone.npz'))
    with pytest.raises(launch.UsageError, match=r'model\.backbone\.init_cfg\.checkpoint: .*gone\.npz does not exist'):
        launch.check_training(cfg)
    with pytest.raises(FileNotFoundError, match=r'no weights at .*gone\.npz; set init_cfg\.checkpoint'):
        Runner.from_cfg(cfg).train()


def test_pseudo_labeler_that_decides_nothing(data_dir: Path, tmp_path: Path) -> None:
    cfg = tiny_config(CONFIGS / 'cam_shapes.py', write_data(data_dir, 'ShapesDataset'), tmp_path)
    cfg.model.pseudo_labeler = dict(steps=[dict(type='MaskAbsent')])
    with pytest.raises(ValueError, match=r'no step decides a mask \(steps: MaskAbsent\); end the chain with'):
        Runner.from_cfg(cfg)
