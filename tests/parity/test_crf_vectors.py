"""Dense CRF and lattice filter against the official programs, in both backends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from vectors import close, load, planes, tensor, vectors

from mmwsss.refiners import DenseCRF, PermutohedralLattice

BACKENDS = pytest.mark.parametrize('backend', ['numba', 'torch'])

# The settings are arguments of the official functions and stand in no file.
VITPCM = dict(gaussian_weight=3, gaussian_xy=1, bilateral_weight=4, bilateral_xy=67, bilateral_rgb=3)
PSA = dict(gaussian_weight=3, gaussian_xy=3, bilateral_weight=10, bilateral_xy=80, bilateral_rgb=13)
COSA = {
    'infv2': dict(
        iterations=1, gaussian_weight=1, gaussian_xy=1, bilateral_weight=4, bilateral_xy=121, bilateral_rgb=5
    ),
    'inf': dict(gaussian_weight=3, gaussian_xy=4, bilateral_weight=3, bilateral_xy=83, bilateral_rgb=5),
}
PMM = {
    'refine_cam_crf_gauss_compat10': dict(PSA, gaussian_weight=10),
    'imutils_crf_gauss_compat3': PSA,
    'visualization_dense_crf_1iter': dict(PSA, iterations=1),
    'segmentor_crf': VITPCM,
}


def check(image: torch.Tensor, probabilities: torch.Tensor, expected, atol: float = 1e-3, **settings) -> None:
    """One image (3, H, W) and its maps (C, H, W) give ``expected`` up to ``atol`` and nearly the same mask."""
    (q,) = DenseCRF(**settings)(image[None], probabilities[None])
    close(q, expected, atol=atol)
    assert (q.argmax(0) == tensor(expected).argmax(0)).float().mean() >= 0.995


def with_background(maps: torch.Tensor, power: float) -> torch.Tensor:
    """Maps (C, H, W) behind a background of (1 - largest)^power."""
    return torch.cat(((1 - maps.amax(dim=0, keepdim=True)) ** power, maps))


@BACKENDS
@vectors('cosa', 'crf*.npz')
def test_cosa(path: Path, backend: str) -> None:
    data = load(path)
    for key, settings in COSA.items():
        check(planes(data['img_u8']), tensor(data['prob']), data[key], backend=backend, **settings)


@BACKENDS
@vectors('pmm', 'dense_crf*.npz')
def test_pmm(path: Path, backend: str) -> None:
    data = load(path)
    for key, settings in PMM.items():
        check(planes(data['image']), tensor(data['probs']), data[key], 1e-4, backend=backend, **settings)
    for key, power in powers(data, r'crf_with_alpha(\d+)'):
        settings = PMM['refine_cam_crf_gauss_compat10']
        maps = with_background(tensor(data['cams']), power)
        check(planes(data['image']), maps, data[key], 1e-4, backend=backend, **settings)


@BACKENDS
@vectors('acr', 'crf_with_alpha*.npz')
def test_acr(path: Path, backend: str) -> None:
    data = load(path)
    for key, power in powers(data, r'crf_alpha_(\d+)'):
        maps = with_background(tensor(data['cams']), power)
        check(planes(data['image_rgb']), maps, data[key], backend=backend, **PSA)


@BACKENDS
@vectors('vitpcm', '17_*.npz')
def test_vitpcm(path: Path, backend: str) -> None:
    data = load(path)
    image, probabilities = planes(data['image']), tensor(data['prob'])
    check(image, probabilities, data['q'], backend=backend, **VITPCM)
    for key, iterations in powers(data, r'q_iter(\d+)'):
        check(image, probabilities, data[key], backend=backend, **VITPCM, iterations=int(iterations))


@BACKENDS
@vectors('cosa', 'loss_energy*.npz')
def test_filter_of_the_energy_loss(path: Path, backend: str) -> None:
    data = load(path)
    images, values = tensor(data['filt_img']), tensor(data['filt_in'])
    height, width = images.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    place = torch.stack((x, y)).flatten(1).T.float() / 50
    features = torch.cat((place.expand(len(images), -1, -1), images.flatten(2).transpose(1, 2) / 15), dim=2)
    out = PermutohedralLattice(features, backend).filter(values.flatten(2).transpose(1, 2))
    expected = tensor(data['filt_out']).flatten(2).transpose(1, 2)
    close(out, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)


def powers(data: dict, pattern: str) -> list[tuple[str, float]]:
    """Keys of ``data`` that match ``pattern``, each with the number in it."""
    found = [(key, float(match[1])) for key in data if (match := re.fullmatch(pattern, key))]
    assert found, f'no key like {pattern}'
    return found
