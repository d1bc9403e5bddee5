"""Undoing the normalisation of network inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def denormalize(images: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> Tensor:
    """Values 0..255, float32 (B, C, H, W), of images normalised with ``mean`` and ``std`` (C,) in grey levels.

    ``mean`` and ``std`` are best the buffers of the data preprocessor, which are on the device already.
    """
    images = images.float()
    return images * _per_channel(std, images) + _per_channel(mean, images)


def denormalize_to_uint8(images: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> Tensor:
    """As :func:`denormalize`, truncated to uint8 as in the official CoSA: about 1% of the values are one level low."""
    return denormalize(images, mean, std).clamp(0, 255).to(torch.uint8)


def _per_channel(values: Sequence[float] | Tensor, images: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=images.dtype, device=images.device).reshape(-1, 1, 1)
