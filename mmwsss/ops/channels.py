"""Which channels of a stack of class maps the image labels allow."""

from __future__ import annotations

import torch
from torch import Tensor


def present_channels(labels: Tensor, channels: int) -> Tensor:
    """Channels (B, C) bool that multi-hot image labels (B, K) allow; the background, where C = K + 1, is always there.

    Raises:
        ValueError: C is neither K nor K + 1.
    """
    present = labels > 0.5
    if present.shape[1] == channels:
        return present
    if present.shape[1] == channels - 1:
        return torch.cat((present.new_ones(len(present), 1), present), dim=1)
    raise ValueError(
        f'{labels.shape[1]} image labels do not fit maps of {channels} channels; expected one for each foreground class'
    )
