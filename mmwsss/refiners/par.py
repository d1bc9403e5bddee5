"""Pixel-adaptive refinement: every pixel becomes a mean of its dilated neighbours, weighted by likeness of colour."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmwsss.ops.channels import present_channels
from mmwsss.ops.resize import resize_align_corners
from mmwsss.registry import REFINERS

from .backends import check_backend, choose_backend, compiled_kernels
from .base import Refiner, check_inputs, check_whole
from .threads import share

# Order of the neighbours of one dilation: row by row, without the pixel itself.
NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)


@dataclass(frozen=True)
class PixelAffinity:
    """Weights of the neighbours of every pixel, the result of :func:`par_affinity`.

    Args:
        weights: (B, N, H, W) float32, N = 8 len(dilations), dilation by dilation, the eight neighbours row by row.
        dilations: distances of the neighbours in pixels.
    """

    weights: Tensor
    dilations: tuple[int, ...]


def par_affinity(
    images: Tensor,
    dilations: Sequence[int] = (1, 2, 4, 8, 12, 24),
    scale: float = 0.3,
    position_weight: float = 0.01,
    squared: bool = True,
    centre: bool = False,
    eps: float = 1e-8,
    backend: str = 'auto',
) -> PixelAffinity:
    """Weights of the neighbours from likeness of colour, to be shared by all channels and thresholds of an image.

    softmax over the neighbours of -mean_c (|difference| / (deviation + eps) / scale)^2, plus ``position_weight`` times
    the softmax of the same form of the distances. The deviation is the unbiased one over the neighbours, so the
    weights do not depend on the range of the images. ToCo and CoSA use the defaults; the older PAMR is
    ``scale=0.1, position_weight=0, squared=False, centre=True``.

    Args:
        images: (B, 3, H, W) RGB, any dtype and range; no gradient flows back to them.
        dilations: distances of the neighbours in pixels; beyond the border the border pixel is repeated.
        squared: whether the colour distance is squared.
        centre: whether the pixel itself counts, once per dilation, in the deviation of the colours.
        backend: 'torch' (any device), 'numba' (CPU), or 'auto': numba on the CPU, torch elsewhere.

    Raises:
        ValueError: unknown backend, numba on another device, or a dilation that is not a positive whole number.
        ImportError: numba is asked for but missing.
    """
    dilations = _checked_dilations(dilations)
    kernels = _kernels(backend, images.device)
    position = position_weight * _position_weights(dilations, scale, eps)
    build = _affinity_torch if kernels is None else _affinity_numba(kernels)
    with torch.autocast(images.device.type, enabled=False):
        weights = build(images.detach().float(), dilations, scale, position, squared, centre, eps)
    return PixelAffinity(weights, dilations)


def propagate(
    affinity: PixelAffinity, maps: Tensor, iterations: int, present: Tensor | None = None, backend: str = 'auto'
) -> Tensor:
    """Replace every pixel of ``maps`` by the weighted sum of its neighbours, ``iterations`` times.

    Args:
        maps: (B, C, H, W) of the size of the affinity.
        present: (B, C) bool, channels to work on; the others are 0 in the result. None for all.
        backend: as for :func:`par_affinity`.

    Returns:
        (B, C, H, W) float32; gradients flow through torch only, which 'auto' takes for maps that require them.

    Raises:
        ValueError: the maps do not fit the affinity, or ``backend`` does not fit the device.
    """
    weights = affinity.weights
    if maps.shape[0] != weights.shape[0] or maps.shape[2:] != weights.shape[2:]:
        raise ValueError(
            f'maps {tuple(maps.shape)} do not fit an affinity of {len(weights)} images of {tuple(weights.shape[2:])} '
            'pixels; resize the maps to the images first'
        )
    if backend == 'auto' and torch.is_grad_enabled() and maps.requires_grad:
        backend = 'torch'
    kernels = _kernels(backend, maps.device)
    step = _propagate_torch if kernels is None else _propagate_numba(kernels)
    with torch.autocast(maps.device.type, enabled=False):
        out = torch.zeros(maps.shape, dtype=torch.float32, device=maps.device)
        for image, near in enumerate(weights):
            keep = slice(None) if present is None else present[image]
            kept = maps[image, keep].float()
            if len(kept):
                out[image, keep] = step(near, kept, affinity.dilations, iterations)
    return out


@REFINERS.register_module()
class PAR(Refiner):
    """Pixel-adaptive refinement (PAR of ToCo and CoSA).

    Args:
        iterations: number of propagation steps.
        dilations, scale, position_weight, squared, centre, eps, backend: see :func:`par_affinity`.

    Raises:
        ValueError: a setting is impossible.
    """

    def __init__(
        self,
        iterations: int = 10,
        dilations: Sequence[int] = (1, 2, 4, 8, 12, 24),
        scale: float = 0.3,
        position_weight: float = 0.01,
        squared: bool = True,
        centre: bool = False,
        eps: float = 1e-8,
        backend: str = 'auto',
    ) -> None:
        check_backend(backend)
        self.iterations = check_whole('iterations', iterations, 0)
        self.backend = backend
        self.settings = dict(
            dilations=_checked_dilations(dilations),
            scale=scale,
            position_weight=position_weight,
            squared=squared,
            centre=centre,
            eps=eps,
        )

    def affinity(self, images: Tensor) -> PixelAffinity:
        """Affinity of ``images`` (B, 3, H, W), to be handed to several calls."""
        return par_affinity(images, **self.settings, backend=self.backend)

    @torch.no_grad()
    def __call__(
        self, images: Tensor, maps: Tensor, labels: Tensor | None = None, affinity: PixelAffinity | None = None
    ) -> Tensor:
        """Refine ``maps`` on ``images``; see :class:`Refiner`. ``affinity`` spares computing it again."""
        check_inputs(images, maps, labels)
        affinity = self.affinity(images) if affinity is None else affinity
        present = None if labels is None else present_channels(labels.to(maps.device), maps.shape[1])
        if maps.shape[-2:] != images.shape[-2:]:
            maps = resize_align_corners(maps.float(), images.shape[-2:])
        return propagate(affinity, maps, self.iterations, present, self.backend)


@REFINERS.register_module()
class PAMR(PAR):
    """Pixel-adaptive mask refinement (Araslanov and Roth, CVPR 2020): absolute distances, no position term."""

    def __init__(
        self,
        iterations: int = 10,
        dilations: Sequence[int] = (1, 2, 4, 8, 12, 24),
        scale: float = 0.1,
        position_weight: float = 0.0,
        squared: bool = False,
        centre: bool = True,
        eps: float = 1e-8,
        backend: str = 'auto',
    ) -> None:
        super().__init__(iterations, dilations, scale, position_weight, squared, centre, eps, backend)


def _checked_dilations(dilations: Sequence[int]) -> tuple[int, ...]:
    checked = tuple(int(d) for d in dilations)
    if not checked or min(checked) < 1 or any(d != c for d, c in zip(dilations, checked)):
        raise ValueError(f'dilations are {tuple(dilations)}; expected positive whole numbers of pixels, at least one')
    return checked


def _kernels(backend: str, device: torch.device) -> ModuleType | None:
    """The module of compiled kernels, or None where torch does the work."""
    return compiled_kernels('par_kernels', 'PAR') if choose_backend(backend, device) == 'numba' else None


def _position_weights(dilations: tuple[int, ...], scale: float, eps: float) -> Tensor:
    """Softmax (N,) float64 of minus the squared distances of the neighbours, in deviations."""
    distance = torch.tensor([d * (dy * dy + dx * dx) ** 0.5 for d in dilations for dy, dx in NEIGHBOURS]).double()
    return (-((distance / (distance.std() + eps) / scale) ** 2)).softmax(dim=0)


def _affinity_torch(
    images: Tensor, dilations: tuple[int, ...], scale: float, position: Tensor, squared: bool, centre: bool, eps: float
) -> Tensor:
    batch, _, height, width = images.shape
    pad = max(dilations)
    padded = F.pad(images, (pad,) * 4, mode='replicate')
    count = len(NEIGHBOURS) * len(dilations) + (len(dilations) if centre else 0)
    mean = torch.zeros_like(images)
    for near in _shifted(padded, dilations, (height, width)):
        mean += near - images
    mean /= count
    variance = len(dilations) * mean**2 if centre else torch.zeros_like(images)
    for near in _shifted(padded, dilations, (height, width)):
        variance += (near - images - mean) ** 2
    factor = 1 / ((variance / (count - 1)).sqrt_() + eps) / scale
    logits = images.new_empty(batch, len(position), height, width)
    for n, near in enumerate(_shifted(padded, dilations, (height, width))):
        distance = (near - images) * factor
        logits[:, n] = -(distance**2 if squared else distance.abs()).mean(dim=1)
    return logits.softmax(dim=1).add_(position.to(images, non_blocking=True)[:, None, None])


def _propagate_torch(weights: Tensor, maps: Tensor, dilations: tuple[int, ...], iterations: int) -> Tensor:
    pad = max(dilations)
    for _ in range(iterations):
        padded = F.pad(maps[None], (pad,) * 4, mode='replicate')[0]
        maps = torch.zeros_like(maps)
        for n, near in enumerate(_shifted(padded, dilations, maps.shape[-2:])):
            maps.addcmul_(near, weights[n])
    return maps


def _shifted(padded: Tensor, dilations: tuple[int, ...], size: tuple[int, int]) -> Iterator[Tensor]:
    """Views (..., H, W) of ``padded``, one for each neighbour."""
    pad = max(dilations)
    for d in dilations:
        for dy, dx in NEIGHBOURS:
            yield padded[..., pad + dy * d : pad + dy * d + size[0], pad + dx * d : pad + dx * d + size[1]]


def _affinity_numba(kernels: ModuleType) -> Callable[..., Tensor]:
    def build(images, dilations, scale, position, squared, centre, eps):
        batch, _, height, width = images.shape
        padded = F.pad(images, (max(dilations),) * 4, mode='replicate').numpy()
        out = torch.empty(batch, len(position), height, width)
        steps, constants = np.array(dilations), position.float().numpy()
        settings = (np.float32(1 / scale), np.float32(eps), squared, centre, constants)
        for image, target in zip(padded, out.numpy()):
            share(kernels.affinity_rows, height, image, steps, *settings, target)
        return out

    return build


def _propagate_numba(kernels: ModuleType) -> Callable[..., Tensor]:
    def run(weights, maps, dilations, iterations):
        pad, height = max(dilations), maps.shape[-2]
        if not iterations:
            return maps
        source = F.pad(maps[None], (pad,) * 4, mode='replicate')[0]
        target = torch.empty_like(source)
        near, steps = weights.contiguous().numpy(), np.array(dilations)
        for _ in range(iterations):
            share(kernels.propagate_rows, height, source.numpy(), near, steps, target.numpy())
            source, target = target, source
        return source[:, pad : pad + height, pad : pad + maps.shape[-1]]

    return run
