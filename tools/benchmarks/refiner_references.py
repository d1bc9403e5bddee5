"""Refiners written the straightforward way, for comparison with those of mmwsss."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def reference_par(
    images: Tensor, maps: Tensor, dilations: Sequence[int], iterations: int, scale: float = 0.3, position: float = 0.01
) -> Tensor:
    """Pixel-adaptive refinement of ``maps`` (B, C, H, W) with a copy of them for every neighbour in every step."""
    near = neighbours(images, dilations)
    deviation = near.std(dim=2, keepdim=True)
    colour = -(((near - images[:, :, None]).abs() / (deviation + 1e-8) / scale) ** 2).mean(dim=1, keepdim=True)
    ring = torch.tensor([2**0.5, 1, 2**0.5, 1, 1, 2**0.5, 1, 2**0.5], device=images.device)
    distance = torch.cat([ring * d for d in dilations]).view(1, 1, -1, 1, 1)
    place = -((distance / (distance.std() + 1e-8) / scale) ** 2)
    weights = colour.softmax(dim=2) + position * place.softmax(dim=2)
    for _ in range(iterations):
        maps = (neighbours(maps, dilations) * weights).sum(dim=2)
    return maps


def neighbours(x: Tensor, dilations: Sequence[int]) -> Tensor:
    """(B, C, 8 len(dilations), H, W): a copy of ``x`` for every neighbour, the border repeated.

    Plain copies; the dilated convolutions with one-hot kernels of the official code do the same more slowly on a CPU.
    """
    height, width = x.shape[-2:]
    copies = []
    for d in dilations:
        padded = F.pad(x, (d,) * 4, mode='replicate')
        for dy, dx in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)):
            copies.append(padded[..., dy * d : dy * d + height, dx * d : dx * d + width])
    return torch.stack(copies, dim=2)


def reference_walk(affinity: Tensor, scores: Tensor, beta: float, logt: int) -> Tensor:
    """Random walk of ``scores`` (1, C, h, w) along a dense ``affinity`` (N, N) by squaring the transition matrix."""
    steps = affinity**beta
    steps = steps / steps.sum(dim=0, keepdim=True)
    for _ in range(logt):
        steps = steps @ steps
    return (scores.flatten(2) @ steps).view(scores.shape)


def pydensecrf_name() -> str | None:
    """Name and version of pydensecrf, or None where it is not installed."""
    if importlib.util.find_spec('pydensecrf') is None:
        return None
    return f'pydensecrf {version("pydensecrf")}'


def pydensecrf_marginals(
    image: np.ndarray,
    probabilities: np.ndarray,
    iterations: int,
    gaussian: tuple[float, float],
    bilateral: tuple[float, float, float],
) -> np.ndarray:
    """Marginals (C, H, W) of pydensecrf for ``image`` (H, W, 3) uint8 and ``probabilities`` (C, H, W) float32.

    ``gaussian`` is weight and deviation in pixels, ``bilateral`` weight and deviations in pixels and grey levels.
    """
    from pydensecrf.densecrf import DenseCRF2D
    from pydensecrf.utils import unary_from_softmax

    channels, height, width = probabilities.shape
    crf = DenseCRF2D(width, height, channels)
    crf.setUnaryEnergy(np.ascontiguousarray(unary_from_softmax(probabilities)))
    crf.addPairwiseGaussian(sxy=gaussian[1], compat=gaussian[0])
    crf.addPairwiseBilateral(
        sxy=bilateral[1], srgb=bilateral[2], rgbim=np.ascontiguousarray(image), compat=bilateral[0]
    )
    return np.array(crf.inference(iterations), dtype=np.float32).reshape(channels, height, width)
