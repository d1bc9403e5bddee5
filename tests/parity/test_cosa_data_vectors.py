"""Augmentation, normalisation and learning rates of CoSA against the official implementation."""

from __future__ import annotations

import random
import re
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import ParamSchedulerHook
from torch import nn
from vectors import close, load, planes, tensor, vectors

from mmwsss.datasets.transforms import STRONG_OPS, OneOfStrongAug
from mmwsss.datasets.transforms.scale_crop import (
    covered_box,
    gaussian_blur,
    place_in_window,
    resize_bilinear,
    sample_position,
    scaled_size,
)
from mmwsss.engine import WarmupPolyLR
from mmwsss.models.data_preprocessor import WeakSegDataPreProcessor
from mmwsss.ops import denormalize, denormalize_to_uint8

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
RATIOS = (0.5, 2.0)  # the settings of the official script, which the files do not hold
WARMUP_RATIO = 1e-6
NAMES = dict(AutoContrast='auto_contrast')


def operation_of(key: str) -> tuple[str, int]:
    """Our name and the magnitude of an array ``op_<official name>_m<magnitude>``."""
    name, magnitude = re.fullmatch(r'op_(?:Rand)?(\w+)_m(\d+)', key).groups()
    return NAMES.get(name, name.lower()), int(magnitude)


def seed_of(magnitudes: np.ndarray, seeds: range = range(5000)) -> int:
    """Seed of numpy's generator after which ``magnitudes`` were drawn; skips the test if it is none of ``seeds``."""
    for seed in seeds:
        if np.array_equal(np.random.RandomState(seed).randint(1, 10, 8), magnitudes[:8]):
            return seed
    pytest.skip(f'magnitude_samples were not drawn after any seed of {seeds}')


def geometries(data: dict[str, np.ndarray]) -> list[tuple[int, dict[str, np.ndarray]]]:
    """Number and arrays of every case ``geo<number>_<step>``."""
    numbers = sorted(int(match[1]) for key in data if (match := re.fullmatch(r'geo(\d+)_in', key)))
    assert numbers
    return [(n, {step: data[f'geo{n}_{step}'] for step in ('in', 'scaled', 'flipped', 'crop', 'box')}) for n in numbers]


@vectors('cosa', 'transforms*.npz')
def test_strong_operations(path: Path) -> None:
    data = load(path)
    cases = [key for key in data if key.startswith('op_')]
    assert {operation_of(key)[0] for key in cases} == set(STRONG_OPS)
    step = OneOfStrongAug()
    for key in cases:
        name, magnitude = operation_of(key)
        np.testing.assert_array_equal(STRONG_OPS[name](data['img_u8'], magnitude), data[key], err_msg=key)
        from_bgr = step.apply(data['img_u8'][..., ::-1], name, magnitude)[..., ::-1]
        np.testing.assert_array_equal(from_bgr, data[key], err_msg=key)


@vectors('cosa', 'transforms*.npz')
def test_blur(path: Path) -> None:
    data = load(path)
    cases = [key for key in data if key.startswith('gauss_')]
    assert cases
    for key in cases:
        radius = float(re.fullmatch(r'gauss_r(\d+p\d+)', key)[1].replace('p', '.'))
        np.testing.assert_array_equal(gaussian_blur(data['img_u8'], radius), data[key], err_msg=key)


@vectors('cosa', 'transforms*.npz')
def test_magnitudes(path: Path) -> None:
    samples = load(path)['magnitude_samples']
    lowest, highest = OneOfStrongAug().magnitude
    assert samples.min() == lowest
    assert samples.max() == highest
    rng = np.random.RandomState(seed_of(samples))
    np.testing.assert_array_equal(rng.randint(lowest, highest + 1, len(samples)), samples)


@vectors('cosa', 'transforms*.npz')
def test_scale_and_crop(path: Path) -> None:
    data = load(path)
    size = (int(data['crop_size']),) * 2
    for number, case in geometries(data):
        scaled, flipped, box = case['scaled'], case['flipped'], case['box']
        np.testing.assert_array_equal(resize_bilinear(case['in'], scaled.shape[:2]), scaled, err_msg=str(number))
        assert np.array_equal(flipped, scaled) or np.array_equal(flipped, scaled[:, ::-1])
        ranges = [
            range(min(0, window - side), max(0, window - side) + 1) for side, window in zip(flipped.shape[:2], size)
        ]
        corner = case['crop'][box[0], box[2]]
        fits = [
            position
            for position in product(*ranges)
            if np.array_equal(flipped[int(box[0]) - position[0], int(box[2]) - position[1]], corner)
            and np.array_equal(covered_box(flipped.shape[:2], size, position), box)
            and np.array_equal(place_in_window(flipped, size, position), case['crop'])
        ]
        assert fits, f'geo{number}: the crop is no window of the flipped image with these real pixels'


@vectors('cosa', 'transforms*.npz')
def test_draws_of_scale_flip_and_crop(path: Path) -> None:
    """The official code draws the padding with numpy, the rest with ``random``; these values lead to its images."""
    data = load(path)
    profile_seed = seed_of(data['magnitude_samples'])
    size = int(data['crop_size'])
    for number, case in geometries(data):
        rng, np_rng = random.Random(profile_seed + number), np.random.RandomState(profile_seed + number)
        shape = scaled_size(case['in'].shape[:2], rng.uniform(*RATIOS))
        assert shape == case['scaled'].shape[:2]
        flips = rng.random() > 0.5
        np.testing.assert_array_equal(case['scaled'][:, ::-1] if flips else case['scaled'], case['flipped'])
        offsets = [np_rng.randint(max(size - side, 0) + 1) for side in shape]
        origins = [rng.randrange(max(side - size, 0) + 1) for side in shape]
        position = tuple(offset - origin for offset, origin in zip(offsets, origins))
        np.testing.assert_array_equal(place_in_window(case['flipped'], (size, size), position), case['crop'])
        np.testing.assert_array_equal(covered_box(shape, (size, size), position), case['box'])
        assert case['box'].dtype == covered_box(shape, (size, size), position).dtype


@vectors('cosa', 'transforms*.npz')
def test_positions_have_the_official_range(path: Path) -> None:
    data = load(path)
    size = (int(data['crop_size']),) * 2
    for _, case in geometries(data):
        shape = case['flipped'].shape[:2]
        positions = np.array([sample_position(shape, size) for _ in range(200)])
        slack = np.array(size) - shape
        assert (positions >= np.minimum(slack, 0)).all()
        assert (positions <= np.maximum(slack, 0)).all()


@vectors('cosa', 'transforms*.npz')
def test_normalisation_and_back(path: Path) -> None:
    data = load(path)
    preprocessor = WeakSegDataPreProcessor(mean=MEAN, std=STD, bgr_to_rgb=True)
    bgr = planes(data['img_u8']).flip(0)
    (normalized,) = preprocessor(dict(inputs=[bgr]))['inputs']
    close(normalized, data['norm_totensor'], atol=1e-5, rtol=1e-5)
    close(normalized, planes(data['norm_img']), atol=1e-5, rtol=1e-5)
    images = normalized[None]
    for mean, std in ((MEAN, STD), (preprocessor.mean, preprocessor.std)):
        close(denormalize(images, mean, std)[0], planes(data['img_u8']).float(), atol=1e-3)
        truncated = denormalize_to_uint8(images, mean, std)
        assert truncated.dtype == torch.uint8
        assert torch.equal(truncated, tensor(data['denorm_u8']))
        close(truncated.float() / 255, data['denorm'], atol=1e-6)


@vectors('cosa', 'lr_schedule*.npz')
def test_learning_rates(path: Path) -> None:
    data = load(path)
    cases = [key.removesuffix('_max_iter') for key in data if key.endswith('_max_iter')]
    assert cases
    for case in cases:
        steps, rates = data[f'{case}_iter'], data[f'{case}_lr']
        assert steps[0] == 0
        bases = rates[0] / WARMUP_RATIO  # the first step runs at this share of the rate
        groups = [dict(params=[nn.Parameter(torch.zeros(1))], lr=float(base)) for base in bases]
        optimizer = torch.optim.SGD(groups)
        scheduler = WarmupPolyLR(
            optimizer,
            max_iters=int(data[f'{case}_max_iter']),
            warmup_ratio=WARMUP_RATIO,
            min_mult=float(data[f'{case}_min_mult']),
        )
        runner, hook = SimpleNamespace(param_schedulers=[scheduler]), ParamSchedulerHook()
        in_force = {}
        for step in range(int(steps.max()) + 1):
            in_force[step] = [group['lr'] for group in optimizer.param_groups]
            if step == 0:
                optimizer.step()  # mmengine warns of a schedule that runs ahead of its optimizer
            hook.after_train_iter(runner, step)
        np.testing.assert_allclose([in_force[step] for step in steps.tolist()], rates, rtol=1e-9, err_msg=case)
