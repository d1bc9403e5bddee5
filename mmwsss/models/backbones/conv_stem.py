"""Convolutional patch embedding for networks that start without pretrained weights."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn


class ConvStem(nn.Module):
    """Embed patches by 3x3 convolutions instead of one linear map (Xiao et al., NeurIPS 2021, arXiv 2106.14881).

    log2(``patch_size``) convolutions of stride 2, each doubling the channels up to ``embed_dims``, two more of stride 1
    and a linear layer. Linear patches need far more data to tell textures apart; batch norm, because with group norm
    the training from image labels alone did not get going.

    Args:
        img_size: (H, W) that gives ``init_out_size``, the grid of the position embeddings.
        patch_size: side of a patch, a power of 2.

    Raises:
        ValueError: ``patch_size`` is no power of 2.
    """

    def __init__(self, img_size: tuple[int, int], patch_size: int, embed_dims: int, in_channels: int = 3) -> None:
        super().__init__()
        steps = round(math.log2(patch_size))
        if 2**steps != patch_size:
            raise ValueError(f'a convolutional stem needs patch_size to be a power of 2, got {patch_size}')
        self.init_out_size = (img_size[0] // patch_size, img_size[1] // patch_size)
        widths = [in_channels, *(embed_dims // 2 ** (steps - 1 - i) for i in range(steps)), embed_dims, embed_dims]
        layers = []
        for i, (before, after) in enumerate(pairwise(widths)):
            stride = 2 if i < steps else 1
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.projection = nn.Sequential(*layers, nn.Conv2d(embed_dims, embed_dims, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens (B, h*w, D) and the grid (h, w) of ``images`` (B, 3, H, W)."""
        features = self.projection(images)
        return features.flatten(2).transpose(1, 2), tuple(features.shape[-2:])
