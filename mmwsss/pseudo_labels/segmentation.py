"""Labels from the logits of a segmentation head, restricted by image labels (CoSA)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmwsss.ops.channels import present_channels


def mask_absent_logits(logits: Tensor, labels: Tensor, value: float = -1e5) -> Tensor:
    """Set the logits (B, K + 1, h, w) of classes that ``labels`` (B, K) lack to ``value``; the background stays."""
    present = present_channels(labels, logits.shape[1])
    return torch.where(present[:, :, None, None], logits, value)


def label_probabilities(
    logits: Tensor, labels: Tensor, temperature: float = 0.01, mask_after_softmax: bool = False
) -> Tensor:
    """Probabilities of the present classes (CoSA, segmentation pseudo labels).

    Args:
        logits: (B, K + 1, h, w), channel 0 the background.
        labels: (B, K) multi-hot image labels.
        temperature: divisor of the logits; the small default makes the result almost one-hot.
        mask_after_softmax: mask the probabilities instead of the logits, without normalising them again.

    Returns:
        (B, K + 1, h, w) float32, 0 for absent classes.
    """
    logits = logits.float()
    if mask_after_softmax:
        present = present_channels(labels, logits.shape[1])
        return (logits / temperature).softmax(dim=1) * present[:, :, None, None]
    return (mask_absent_logits(logits, labels) / temperature).softmax(dim=1)


def clear_argmax(logits: Tensor, ratio: float, ignore_index: int = 255) -> Tensor:
    """Argmax (B, h, w) of logits (B, C, h, w) where the best class is ``ratio`` times as likely as the second best.

    Other pixels get ``ignore_index``.
    """
    best, index = logits.topk(2, dim=1)
    clear = best[:, 0] - best[:, 1] > math.log(ratio)
    return torch.where(clear, index[:, 0], ignore_index)
