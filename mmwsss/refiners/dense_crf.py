"""Fully connected CRF with Gaussian edge potentials (Krähenbühl and Koltun, NeurIPS 2011)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmwsss.registry import TASK_UTILS

from .permutohedral import PermutohedralLattice


@TASK_UTILS.register_module()
@dataclass(frozen=True)
class DenseCRF:
    """Settings of :func:`dense_crf`; the defaults are those of ViT-PCM.

    Args:
        iterations: mean-field steps.
        gaussian_weight, gaussian_xy: weight and standard deviation (pixels) of the smoothness kernel.
        bilateral_weight, bilateral_xy, bilateral_rgb: weight and deviations (pixels, grey levels) of the appearance
            kernel.
        min_probability: probabilities below are raised to this in the unary term.
    """

    iterations: int = 10
    gaussian_weight: float = 3.0
    gaussian_xy: float = 1.0
    bilateral_weight: float = 4.0
    bilateral_xy: float = 67.0
    bilateral_rgb: float = 3.0
    min_probability: float = 1e-5

    def __call__(self, image: Tensor, probabilities: Tensor) -> Tensor:
        """Refine ``probabilities`` (C, H, W) of ``image`` (3, H, W); see :func:`dense_crf`."""
        return dense_crf(image, probabilities, self)


def dense_crf(image: Tensor, probabilities: Tensor, settings: DenseCRF) -> Tensor:
    """Mean-field marginals of the dense CRF over one image.

    Both kernels are normalised symmetrically and filtered on a permutohedral lattice, like in the widely used C++
    implementation.

    Args:
        image: (3, H, W) RGB in 0..255, any dtype.
        probabilities: (C, H, W) in [0, 1], the unary term is their negative logarithm.

    Returns:
        (C, H, W) float32, channels summing to 1.

    Raises:
        ValueError: image and probabilities differ in size.
    """
    if image.shape[-2:] != probabilities.shape[-2:]:
        raise ValueError(f'image {tuple(image.shape)} and probabilities {tuple(probabilities.shape)} differ in size')
    channels, height, width = probabilities.shape
    logits = probabilities.float().clamp(settings.min_probability, 1).log().reshape(channels, -1).T  # N C
    kernels = [
        (weight, *_normalised_lattice(features))
        for weight, features in (
            (settings.gaussian_weight, _positions(height, width, image.device) / settings.gaussian_xy),
            (settings.bilateral_weight, _bilateral_features(image, settings)),
        )
    ]
    q = logits.softmax(dim=1)
    for _ in range(settings.iterations):
        message = logits
        for weight, lattice, norm in kernels:
            message = message + weight * norm * lattice.filter(norm * q)
        q = message.softmax(dim=1)
    return q.T.reshape(channels, height, width)


def _normalised_lattice(features: Tensor) -> tuple[PermutohedralLattice, Tensor]:
    lattice = PermutohedralLattice(features)
    mass = lattice.filter(features.new_ones(len(features), 1))
    return lattice, (mass + 1e-20).rsqrt()


def _positions(height: int, width: int, device: torch.device) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing='ij')
    return torch.stack((x, y), dim=-1).reshape(-1, 2).float()


def _bilateral_features(image: Tensor, settings: DenseCRF) -> Tensor:
    colours = image.float().flatten(1).T / settings.bilateral_rgb
    return torch.cat((_positions(*image.shape[-2:], image.device) / settings.bilateral_xy, colours), dim=1)
