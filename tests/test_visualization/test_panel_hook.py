import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer
from mmengine.visualization.vis_backend import BaseVisBackend
from mmseg.structures import SegDataSample

from mmwsss.engine.hooks import panel_hook
from mmwsss.engine.hooks.panel_hook import PanelHook
from mmwsss.registry import HOOKS
from mmwsss.visualization import save_png

META = {'classes': ('background', 'cat', 'dog'), 'palette': [[0, 0, 0], [200, 0, 0], [0, 200, 0]]}


@pytest.fixture
def runner(tmp_path):
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo=META)))
    return SimpleNamespace(
        test_loop=loop,
        val_loop=loop,
        log_dir=str(tmp_path / 'log'),
        iter=20,
        logger=logging.getLogger('panels'),
        visualizer=Visualizer(vis_backends=[dict(type='LocalVisBackend')], save_dir=str(tmp_path)),
    )


@pytest.fixture
def samples(tmp_path):
    result = []
    for i in range(5):
        path = save_png(tmp_path / f'image{i}.png', np.full((32, 32, 3), 40 * i, np.uint8))
        sample = SegDataSample(metainfo={'img_path': str(path), 'used_image_labels': True, 'bg_setting': 0.4})
        sample.localization_maps = PixelData(data=torch.rand(2, 32, 32))
        sample.pseudo_mask = PixelData(data=torch.randint(0, 3, (1, 32, 32)))
        sample.pred_sem_seg = PixelData(data=torch.randint(0, 3, (1, 32, 32)))
        sample.image_labels = torch.tensor([1.0, 0.0])
        result.append(sample)
    return result


class OtherBackend(BaseVisBackend):
    """Stands for TensorBoard and the like."""

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir)
        self.pictures = {}

    experiment = None
    _init_env = add_config = add_scalar = add_scalars = None

    def add_image(self, name, image, step=0):
        self.pictures[name, step] = image


def run_test(hook, runner, samples):
    hook.before_test_epoch(runner)
    for i in range(0, len(samples), 2):
        hook.after_test_iter(runner, i // 2, None, samples[i : i + 2])
    hook.after_test_epoch(runner, {})


def run_val(hook, runner, samples):
    hook.before_val_epoch(runner)
    hook.after_val_iter(runner, 0, None, samples)
    hook.after_val_epoch(runner, {})


def test_first_images_of_a_test(runner, samples, tmp_path):
    run_test(HOOKS.build({'type': 'PanelHook', 'num_images': 3, 'overview_rows': 2}), runner, samples)
    folder = tmp_path / 'log' / 'panels'
    names = sorted(p.name for p in folder.iterdir())
    assert names == ['000_image0.png', '001_image1.png', '002_image2.png', 'overview.png']
    panel, overview = (panel_hook.mmcv.imread(str(folder / name)) for name in (names[0], names[-1]))
    assert overview.shape == (2 * (panel.shape[0] + 4), panel.shape[1], 3)
    # image, room for three maps, pseudo mask and prediction; there is no truth
    assert panel.shape[1] == 6 * 192 + 5 * 4


def test_repeated_test_starts_again(runner, samples, tmp_path):
    hook = PanelHook(out_dir=tmp_path / 'here', num_images=1)
    run_test(hook, runner, samples)
    run_test(hook, runner, samples[::-1])
    assert sorted(p.name for p in (tmp_path / 'here').iterdir()) == ['000_image0.png', '000_image4.png', 'overview.png']


def test_validation_is_drawn_on_request(runner, samples, tmp_path):
    run_val(PanelHook(out_dir=tmp_path / 'never'), runner, samples)
    assert not (tmp_path / 'never').exists()
    hook = PanelHook(out_dir=tmp_path / 'second', val_interval=2, num_images=1)
    run_val(hook, runner, samples)
    assert not (tmp_path / 'second').exists()
    run_val(hook, runner, samples)
    assert sorted(p.name for p in (tmp_path / 'second' / 'val_000020').iterdir()) == ['000_image0.png', 'overview.png']


def test_only_the_main_process_draws(runner, samples, tmp_path, monkeypatch):
    monkeypatch.setattr(panel_hook, 'is_main_process', lambda: False)
    run_test(PanelHook(out_dir=tmp_path / 'rank1'), runner, samples)
    assert not (tmp_path / 'rank1').exists()


def test_missing_palette_is_named(runner, samples):
    runner.test_loop.dataloader.dataset.metainfo = {'classes': META['classes']}
    with pytest.raises(ValueError, match='"palette"'):
        run_test(PanelHook(), runner, samples)


def test_other_backends_get_the_panels(runner, samples, tmp_path):
    backends = [dict(type='LocalVisBackend'), dict(type=OtherBackend)]
    runner.visualizer = Visualizer(vis_backends=backends, save_dir=str(tmp_path / 'vis'))
    hook = PanelHook(num_images=2, overview_rows=2, val_interval=1)
    run_val(hook, runner, samples)
    other = runner.visualizer.get_backend('OtherBackend')
    names = ['val_panels/000_image0', 'val_panels/001_image1', 'val_panels/overview']
    assert sorted(other.pictures) == [(name, 20) for name in names]
    written = panel_hook.mmcv.imread(str(tmp_path / 'log/panels/val_000020/overview.png'), channel_order='rgb')
    assert np.array_equal(other.pictures['val_panels/overview', 20], written)
    run_test(hook, runner, samples)
    assert ('panels/overview', 20) in other.pictures
    assert not list((tmp_path / 'vis').rglob('*.png'))  # the local backend would write each picture twice
