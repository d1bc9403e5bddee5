"""Fully connected CRF with Gaussian edge potentials (Krähenbühl and Koltun, NeurIPS 2011)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from mmwsss.ops import present_channels
from mmwsss.registry import REFINERS

from .backends import check_backend, choose_backend
from .base import Refiner, check_inputs
from .cpu_lattice import GAUSSIAN_LATTICES, CpuLattice, cpu_mean_field, tile_order
from .permutohedral import TorchLattice, cpu_lattice

CHANNEL_ORDERS = ('rgb', 'bgr')


@REFINERS.register_module()
@dataclass(frozen=True)
class DenseCRF(Refiner):
    """Mean field of a dense CRF; the defaults are those of ViT-PCM.

    Args:
        iterations: mean-field steps.
        gaussian_weight, gaussian_xy: weight and standard deviation (pixels) of the smoothness kernel; a kernel of
            weight 0 costs nothing.
        bilateral_weight, bilateral_xy, bilateral_rgb: weight and deviations (pixels, grey levels) of the appearance
            kernel.
        min_probability: probabilities below are raised to this in the unary term.
        channel_order: order in which the colours enter the lattice, which is not symmetric in them; 'bgr' reproduces
            methods that read images with OpenCV. The images themselves are RGB in any case.
        backend: 'numba' (compiled, CPU tensors only), 'torch', or 'auto': numba for CPU tensors, torch for others.

    Raises:
        ValueError: a setting is impossible.
    """

    needs_background: ClassVar[bool] = True
    iterations: int = 10
    gaussian_weight: float = 3.0
    gaussian_xy: float = 1.0
    bilateral_weight: float = 4.0
    bilateral_xy: float = 67.0
    bilateral_rgb: float = 3.0
    min_probability: float = 1e-5
    channel_order: str = 'rgb'
    backend: str = 'auto'

    def __post_init__(self) -> None:
        _check_settings(**asdict(self))

    def __call__(self, images: Tensor, maps: Tensor, labels: Tensor | None = None) -> Tensor:
        """Refine probabilities ``maps`` (B, C, H, W) of ``images`` (B, 3, H, W); see :func:`dense_crf`."""
        return dense_crf(images, maps, labels, **asdict(self))


@torch.no_grad()
def dense_crf(
    images: Tensor,
    maps: Tensor,
    labels: Tensor | None = None,
    *,
    iterations: int = 10,
    gaussian_weight: float = 3.0,
    gaussian_xy: float = 1.0,
    bilateral_weight: float = 4.0,
    bilateral_xy: float = 67.0,
    bilateral_rgb: float = 3.0,
    min_probability: float = 1e-5,
    channel_order: str = 'rgb',
    backend: str = 'auto',
) -> Tensor:
    """Mean-field marginals of dense CRFs over a batch of images.

    Both kernels are normalised symmetrically and filtered on a permutohedral lattice, like in the widely used C++
    implementation.

    Args:
        images: (B, 3, H, W) RGB in 0..255, any dtype.
        maps: (B, C, H, W) probabilities in [0, 1], the unary term is their negative logarithm.
        labels: (B, K) multi-hot image labels, K = C or C - 1 (then channel 0 is the background); absent classes take
            no part in the CRF.
        iterations, gaussian_weight, ...: see :class:`DenseCRF`.

    Returns:
        (B, C, H, W) float32 without gradient; present channels sum to 1, absent ones are 0.

    Raises:
        ValueError: images and maps differ in number or size, labels do not fit, or a setting is impossible.
    """
    check_inputs(images, maps, labels)
    if images.shape[-2:] != maps.shape[-2:]:
        raise ValueError(f'images {tuple(images.shape)} and maps {tuple(maps.shape)} differ in size; resize the maps')
    settings = dict(iterations=iterations, gaussian_xy=gaussian_xy, bilateral_xy=bilateral_xy)
    settings |= dict(bilateral_rgb=bilateral_rgb, min_probability=min_probability)
    _check_settings(**settings, channel_order=channel_order, backend=backend)
    batch, channels = maps.shape[:2]
    if batch == 0:
        return maps.new_zeros(maps.shape, dtype=torch.float32)
    present = torch.ones(batch, channels, dtype=torch.bool, device=maps.device)
    if labels is not None:
        present = present_channels(labels.to(maps.device), channels)
    colours = images.flip(1) if channel_order == 'bgr' else images
    solve = _solve_numba if choose_backend(backend, maps.device) == 'numba' else _solve_torch
    gaussian = (gaussian_weight, gaussian_xy)
    bilateral = (bilateral_weight, bilateral_xy, bilateral_rgb)
    return solve(colours, maps.detach(), present, iterations, gaussian, bilateral, min_probability)


def _check_settings(
    *, iterations: int, min_probability: float, channel_order: str, backend: str, **others: float
) -> None:
    if iterations < 0:
        raise ValueError(f'iterations is {iterations}; a mean field takes 0 or more')
    if min_probability <= 0:
        raise ValueError(f'min_probability is {min_probability}; it has to be positive, a logarithm is taken of it')
    for name in ('gaussian_xy', 'bilateral_xy', 'bilateral_rgb'):
        if others[name] <= 0:
            raise ValueError(f'{name} is {others[name]}; a standard deviation has to be positive')
    if channel_order not in CHANNEL_ORDERS:
        raise ValueError(f'channel_order {channel_order!r} is none of {", ".join(CHANNEL_ORDERS)}')
    check_backend(backend)


def _solve_numba(
    images: Tensor,
    maps: Tensor,
    present: Tensor,
    iterations: int,
    gaussian: tuple[float, float],
    bilateral: tuple[float, float, float],
    min_probability: float,
) -> Tensor:
    """Image by image, each with its present channels only; a job's threads share one image."""
    height, width = maps.shape[-2:]
    order = tile_order(height, width)
    indices = torch.from_numpy(order).long()
    out = maps.new_zeros(maps.shape, dtype=torch.float32)
    seen = smoothness = appearance = None
    if gaussian[0]:
        smoothness = _gaussian_lattice(height, width, gaussian[1])
    for image, probabilities, chosen, result in zip(images, maps, present, out):
        if not chosen.any():
            continue
        # Callers that refine one class after the other repeat the image, whose lattice is a good part of the work.
        if bilateral[0] and (seen is None or not torch.equal(image, seen)):
            seen = image
            features = bilateral_features(image[None], *bilateral[1:])[0, indices]
            appearance = cpu_lattice(features, normalise=True)
        logs = _logarithm(probabilities[chosen], min_probability).flatten(1)
        marginals = cpu_mean_field(logs, order, (gaussian[0], smoothness), (bilateral[0], appearance), iterations)
        result[chosen] = marginals.reshape(-1, height, width)
    return out


@lru_cache(maxsize=GAUSSIAN_LATTICES)
def _gaussian_lattice(height: int, width: int, deviation: float) -> CpuLattice:
    order = torch.from_numpy(tile_order(height, width)).long()
    return cpu_lattice(positions(height, width, order.device)[order] / deviation, normalise=True)


def _solve_torch(
    images: Tensor,
    maps: Tensor,
    present: Tensor,
    iterations: int,
    gaussian: tuple[float, float],
    bilateral: tuple[float, float, float],
    min_probability: float,
) -> Tensor:
    """All images at once, their present channels moved to the front slots, of which some images leave a few empty."""
    batch, _, height, width = maps.shape
    points = height * width
    slots = torch.argsort(present, dim=1, descending=True, stable=True)
    taken = present.gather(1, slots)
    slots, taken = slots[:, taken.any(dim=0)], taken[:, taken.any(dim=0)]
    pixels = slots[..., None, None].expand(*slots.shape, height, width)
    unary = _logarithm(maps.gather(1, pixels), min_probability).masked_fill(~taken[..., None, None], -torch.inf)
    unary = unary.flatten(2).permute(2, 0, 1).contiguous()  # (N, B, S)

    lattices = []  # the Gaussian one sees the images as channels of a pixel, the bilateral one as groups of points
    if gaussian[0]:
        features = positions(height, width, maps.device) / gaussian[1]
        groups = torch.zeros(points, dtype=torch.long, device=maps.device)
        lattices.append((gaussian[0], points, TorchLattice(features, groups, normalise=True)))
    if bilateral[0]:
        features = bilateral_features(images, *bilateral[1:]).transpose(0, 1).reshape(points * batch, -1)
        groups = torch.arange(batch, device=maps.device).repeat(points)
        lattices.append((bilateral[0], points * batch, TorchLattice(features, groups, normalise=True)))

    empty = ~taken.any(dim=1)[:, None]  # without any class softmax would divide by zero
    q = unary.softmax(dim=2).masked_fill(empty, 0)
    for _ in range(iterations):
        message = unary
        for weight, rows, lattice in lattices:
            message = message + weight * lattice.filter(q.reshape(rows, -1)).reshape(q.shape)
        q = message.softmax(dim=2).masked_fill(empty, 0)
    out = maps.new_zeros(maps.shape, dtype=torch.float32)
    return out.scatter_(1, pixels, q.permute(1, 2, 0).reshape(pixels.shape))


def _logarithm(probabilities: Tensor, least: float) -> Tensor:
    return probabilities.float().clamp(least, 1).log()


def positions(height: int, width: int, device: torch.device) -> Tensor:
    """x and y (H * W, 2) float32 of the pixels of an image in row order."""
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing='ij')
    return torch.stack((x, y), dim=-1).reshape(-1, 2).float()


def bilateral_features(images: Tensor, xy: float, rgb: float) -> Tensor:
    """Features (B, H * W, 5) float32 of images (B, 3, H, W): x and y by ``xy`` pixels, colours by ``rgb`` levels."""
    colours = images.float().flatten(2).transpose(1, 2) / rgb
    place = positions(*images.shape[-2:], images.device) / xy
    return torch.cat((place.expand(len(images), -1, -1), colours), dim=2)
