"""Features whose differences say which cells of the grid belong together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmwsss.registry import MODELS


@MODELS.register_module()
class AffinityHead(BaseModule):
    """Joins features of several depths for an affinity of cells (PSA, Ahn and Kwak, CVPR 2018; PMM's release).

    The names of its weights are those of the official files: f8_3, f8_4, ... for the features in their order, then f9.
    They start as in SEAM's head.

    Args:
        in_channels: of the features that the head reads.
        tap_channels: that each of them is brought to.
        init_cfg: how ``init_weights`` starts.

    Raises:
        ValueError: not one width for each of the features.
    """

    def __init__(self, in_channels: Sequence[int], tap_channels: Sequence[int], init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if not in_channels or len(in_channels) != len(tap_channels):
            raise ValueError(
                f'AffinityHead needs one entry of tap_channels for each of in_channels, got {tuple(tap_channels)} for '
                f'{tuple(in_channels)}'
            )
        self.taps = [f'f8_{3 + i}' for i in range(len(in_channels))]
        for name, width, channels in zip(self.taps, in_channels, tap_channels):
            tap = nn.Conv2d(width, channels, 1, bias=False)
            nn.init.kaiming_normal_(tap.weight)
            self.add_module(name, tap)
        self.f9 = nn.Conv2d(sum(tap_channels), sum(tap_channels), 1, bias=False)
        nn.init.xavier_uniform_(self.f9.weight, gain=4)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Joined features (B, D, h, w) of ``features`` (B, D_i, h_i, w_i), at the size of the last ones."""
        size = features[-1].shape[-2:]
        parts = [F.elu(getattr(self, name)(feature)) for name, feature in zip(self.taps, features)]
        resized = [
            part if part.shape[-2:] == size else F.interpolate(part, size, mode='bilinear', align_corners=False)
            for part in parts
        ]
        return F.elu(self.f9(torch.cat(resized, dim=1)))
