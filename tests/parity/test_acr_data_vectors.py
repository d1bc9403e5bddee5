"""Training augmentation and optimizer of ACR against the official implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import nn
from vectors import close, load, tensor, vectors

from mmwsss.datasets.transforms import RandomPadCrop, RandomResizeLong
from mmwsss.datasets.transforms.scale_crop import place_in_window
from mmwsss.engine import WarmupPolyLR
from mmwsss.models.data_preprocessor import WeakSegDataPreProcessor
from mmwsss.registry import TRANSFORMS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def position(image_size: tuple[int, int], size: int, draws: np.ndarray) -> tuple[int, int]:
    """(top, left) of the image in the window from the official draws, width first; each lies in 0..|slack|."""
    slacks = [size - side for side in image_size]
    assert all(0 <= draw <= abs(slack) for draw, slack in zip(draws[::-1], slacks))
    return tuple(int(np.sign(slack) * draw) for draw, slack in zip(draws[::-1], slacks))


@vectors('acr', 'train_augmentation*.npz')
def test_augmentation(path: Path) -> None:
    data = load(path)
    crop = int(data['crop_size'])
    cfg = Config.fromfile(CONFIGS / '_base_' / 'datasets' / 'voc12aug_384_longside.py')
    steps = {step['type']: step for step in cfg.train_pipeline}
    low, high = int(0.9 * 384), int(384 / 0.875)
    assert tuple(steps['RandomResizeLong'].long_range) == (low, high)
    assert steps['LoadImageFromFile'].to_float32
    preprocessor = Config.fromfile(CONFIGS / '_base_' / 'models' / 'acr_vit-b16.py').model.data_preprocessor
    normalize = WeakSegDataPreProcessor(**{k: v for k, v in preprocessor.items() if k != 'type'})
    cases = sorted(key.rsplit('_', 1)[1] for key in data if key.startswith('target_long_'))
    assert cases
    for case in cases:
        bgr = np.ascontiguousarray(data[f'image_rgb_{case}'][..., ::-1]).astype(np.float32)
        long_side = int(data[f'target_long_{case}'])
        assert int(0.9 * crop) <= long_side <= int(crop / 0.875)
        results = RandomResizeLong((long_side, long_side)).transform(dict(img=bgr))
        flip = TRANSFORMS.build(dict(type='RandomFlip', prob=float(data[f'flip_draw_{case}'] > 0.5)))
        image = flip(results)['img']
        pad = RandomPadCrop(**{k: v for k, v in steps['RandomPadCrop'].items() if k != 'type'}).pad_val
        corner = position(image.shape[:2], crop, data[f'randrange_draws_w_then_h_{case}'])
        window = place_in_window(image, (crop, crop), corner, pad)
        made = normalize(dict(inputs=[tensor(window.transpose(2, 0, 1))], data_samples=None))['inputs']
        close(made, data[f'network_input_{case}'], atol=1e-6)


@vectors('acr', 'poly_optimizer*.npz')
def test_optimizer_of_the_released_code(path: Path) -> None:
    data = load(path)
    cfg = Config.fromfile(CONFIGS / 'acr' / 'acr_vit-b16-hybrid_1xb1-26k_voc12aug-384x384_released.py')
    (schedule,) = cfg.param_scheduler
    optimizer_cfg = cfg.optim_wrapper.optimizer
    assert (schedule.type, optimizer_cfg.type) == ('WarmupPolyLR', 'SGD')
    assert optimizer_cfg.momentum == float(data['sgd_momentum'])
    assert optimizer_cfg.weight_decay == float(data['sgd_weight_decay'])
    assert schedule.power == float(data['poly_power'])
    weight = nn.Parameter(tensor(data['param0']).clone())
    optimizer = torch.optim.SGD(
        [weight],
        lr=float(data['lr']),
        momentum=optimizer_cfg.momentum,
        weight_decay=optimizer_cfg.weight_decay,
    )
    scheduler = WarmupPolyLR(
        optimizer, max_iters=int(data['max_step']), warmup_iters=schedule.warmup_iters, power=schedule.power
    )
    for grad, expected, lr in zip(data['grads'], data['params_after_each_step'], data['lr_used']):
        np.testing.assert_allclose(optimizer.param_groups[0]['lr'], lr, rtol=1e-9)
        weight.grad = tensor(grad).clone()
        optimizer.step()
        scheduler.step()
        close(weight, expected, atol=1e-6)
    assert schedule.max_iters == (10582 // 4) * 10
    assert cfg.train_cfg.max_iters == schedule.max_iters + 1
