"""Reliability of pseudo labels from their distance to the threshold between background and foreground.

As described in the paper of CoSA; not part of the released code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmwsss.pseudo_labels import divide_no_nan
from mmwsss.registry import MODELS


def perplexity(
    confidence: Tensor, threshold: float | Tensor, scale: float = 0.9, power: float = 1.0, eps: float = 1e-6
) -> Tensor:
    """Perplexity (-log(scale * d))^power of confidences at relative distance d from the threshold (CoSA, RAW).

    d is (v - threshold) / (1 - threshold) above the threshold and (threshold - v) / threshold below it. As described
    in the paper; not part of the released code.

    Args:
        confidence: any shape, scores v in [0, 1].
        threshold: number or tensor that broadcasts, in [0, 1].
        scale: in (0, 1); the smallest perplexity is (-log scale)^power, 0.105 for 0.9.
        power: exponent.
        eps: least d, which bounds the perplexity at the threshold: 13.9 for the defaults.

    Returns:
        the shape of ``confidence``, positive and finite.
    """
    threshold = torch.as_tensor(threshold, dtype=confidence.dtype)
    above = (confidence - threshold) / (1 - threshold).clamp(min=eps)
    below = (threshold - confidence) / threshold.clamp(min=eps)
    distance = torch.where(confidence >= threshold, above, below).clamp(eps, 1)
    return (-torch.log(scale * distance)) ** power


@torch.no_grad()
def reliability_weights(
    confidence: Tensor,
    mask: Tensor,
    threshold: float | Tensor,
    scale: float = 0.9,
    power: float = 1.0,
    ignore_index: int = 255,
    eps: float = 1e-6,
) -> Tensor:
    """Weights 1 / perplexity of pixels, of mean 1 in the foreground and in the background of each image (CoSA, RAW).

    Before the normalisation they lie between (-log(scale * eps))^-power and (-log scale)^-power, 0.072 and 9.49 by
    default, so no pixel outweighs another more than 132 times. As described in the paper; not part of the released
    code.

    Args:
        confidence: (B, H, W) best class score of each pixel in [0, 1].
        mask: (B, H, W) int64, 0 for background.
        threshold, scale, power, eps: see :func:`perplexity`.
        ignore_index: value in ``mask`` of pixels whose weight is 0.

    Returns:
        (B, H, W) without gradient.
    """
    reliability = 1 / perplexity(confidence, threshold, scale, power, eps)
    valid = mask != ignore_index
    parts = (part.to(reliability) for part in (valid & (mask == 0), valid & (mask != 0)))
    return sum(_mean_one(reliability, part) for part in parts)


def _mean_one(values: Tensor, part: Tensor) -> Tensor:
    """``values`` (B, H, W) within the 0/1 ``part`` of each image, divided by their mean there; 0 outside."""
    inside = values * part
    return inside * divide_no_nan(part.sum(dim=(-2, -1), keepdim=True), inside.sum(dim=(-2, -1), keepdim=True))


@MODELS.register_module()
@dataclass(frozen=True)
class ReliabilityWeights:
    """Weights of pixels for the cross entropy against a pseudo mask; see :func:`reliability_weights`.

    As described in the paper; not part of the released code.

    Raises:
        ValueError: ``scale`` is not between 0 and 1 (a perplexity of 0 would have no inverse).
    """

    scale: float = 0.9
    power: float = 1.0
    ignore_index: int = 255
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 < self.scale < 1:
            raise ValueError(f'ReliabilityWeights: scale is {self.scale}; it has to lie between 0 and 1, both excluded')

    def __call__(self, confidence: Tensor, mask: Tensor, threshold: float | Tensor) -> Tensor:
        """Weights (B, H, W) float32 of pixels with ``confidence`` and ``mask`` (B, H, W)."""
        settings = (self.scale, self.power, self.ignore_index, self.eps)
        return reliability_weights(confidence.float(), mask, threshold, *settings)

    def perplexity(self, confidence: Tensor, threshold: float | Tensor) -> Tensor:
        """Perplexity, float32, of the shape of ``confidence``; see :func:`perplexity`."""
        return perplexity(confidence.float(), threshold, self.scale, self.power, self.eps)
