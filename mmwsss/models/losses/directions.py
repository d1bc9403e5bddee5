"""Directions of features, of which cosines are made."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmwsss.pseudo_labels.normalize import as_single

_HALF_MARGIN = 100  # between the largest gradient of a direction and the largest number of the features


def unit_directions(features: Tensor, smallest_norm: float) -> Tensor:
    """Features of every place divided by their norm.

    Args:
        features: (B, D, h, w).
        smallest_norm: shorter features are divided by this, so that their cosines tend to 0. It is raised for float16,
            which could not hold the gradient otherwise.

    Returns:
        (B, D, h * w), float32 or float64.
    """
    smallest_norm = max(smallest_norm, _HALF_MARGIN / torch.finfo(features.dtype).max)
    return F.normalize(as_single(features).flatten(2), dim=1, eps=smallest_norm)
