"""Segmentation heads written plainly."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mmwsss.models.decode_heads import LargeFOVHead

from .vit import copy_weights


class PlainLargeFOV(nn.Module):
    """Two dilated convolutions and a classifier; parts are named as in :class:`LargeFOVHead`."""

    def __init__(self, like: LargeFOVHead) -> None:
        super().__init__()
        channels, dilation = like.channels, like.dilation
        wide = dict(kernel_size=3, padding=dilation, dilation=dilation, bias=False)
        self.conv6 = nn.Conv2d(like.in_channels, channels, **wide)
        self.conv7 = nn.Conv2d(channels, channels, **wide)
        self.conv_seg = nn.Conv2d(channels, like.num_classes, 1, bias=False)
        copy_weights(self, like)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, C, h, w) of features (B, D, h, w)."""
        return self.conv_seg(F.relu(self.conv7(F.relu(self.conv6(features)))))
