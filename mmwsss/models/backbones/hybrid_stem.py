"""Convolutional part of the hybrid of a ResNet and a vision transformer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwsss.registry import MODELS

STEM_STRIDE = 4


def pad_same(maps: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """Pad ``maps`` (B, C, H, W) as TensorFlow does, the odd row and column at the bottom and on the right."""
    missing = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in maps.shape[-2:]]
    (top, bottom), (left, right) = ((m // 2, m - m // 2) for m in missing)
    return F.pad(maps, (left, right, top, bottom), value=value)


class StdConv2d(nn.Conv2d):
    """Bias-free convolution whose kernels are brought to mean 0 and deviation 1, padded by :func:`pad_same`.

    The deviation is that of all numbers of a kernel, not of a sample of them (Qiao et al., arXiv 1903.10520, as in
    BiT and in the hybrid ViT; mmcv's ``ConvWS2d`` divides by n - 1).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, eps: float = 1e-5) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, bias=False)
        self.eps = eps

    def forward(self, maps: Tensor) -> Tensor:
        std, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        kernel = (self.weight - mean) / (std + self.eps)
        return F.conv2d(pad_same(maps, self.kernel_size[0], self.stride[0]), kernel, stride=self.stride)


class _ConvNorm(nn.Module):
    """Convolution and group norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv = StdConv2d(in_channels, out_channels, kernel, stride)
        self.norm = nn.GroupNorm(groups, out_channels)

    def forward(self, maps: Tensor) -> Tensor:
        return self.norm(self.conv(maps))


class _Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with group norm, added to their input before the last ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, groups: int, downsample: bool) -> None:
        super().__init__()
        inner = out_channels // 4
        self.downsample = _ConvNorm(in_channels, out_channels, 1, stride, groups) if downsample else None
        self.conv1, self.norm1 = StdConv2d(in_channels, inner, 1), nn.GroupNorm(groups, inner)
        self.conv2, self.norm2 = StdConv2d(inner, inner, 3, stride), nn.GroupNorm(groups, inner)
        self.conv3, self.norm3 = StdConv2d(inner, out_channels, 1), nn.GroupNorm(groups, out_channels)

    def forward(self, maps: Tensor) -> Tensor:
        shortcut = maps if self.downsample is None else self.downsample(maps)
        maps = self.norm1(self.conv1(maps)).relu()
        maps = self.norm2(self.conv2(maps)).relu()
        return (self.norm3(self.conv3(maps)) + shortcut).relu()


class _Stage(nn.Module):
    """Bottlenecks, the first of which changes width and stride."""

    def __init__(self, in_channels: int, out_channels: int, depth: int, stride: int, groups: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                _Bottleneck(
                    out_channels if i else in_channels, out_channels, 1 if i else stride, groups, downsample=not i
                )
                for i in range(depth)
            )
        )

    def forward(self, maps: Tensor) -> Tensor:
        return self.blocks(maps)


class _ResNet(nn.Module):
    """Stem and stages; the names of the modules are those of the official weights."""

    def __init__(self, in_channels: int, stem: int, channels: Sequence[int], depths: Sequence[int], groups: int):
        super().__init__()
        self.stem = _ConvNorm(in_channels, stem, 7, 2, groups)
        widths = [stem, *channels]
        self.stages = nn.Sequential(
            *(
                _Stage(widths[i], widths[i + 1], depth, 2 if i else 1, groups)
                for i, depth in enumerate(depths)
            )
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stem(images).relu()
        return self.stages(F.max_pool2d(pad_same(maps, 3, 2, float('-inf')), 3, 2))


@MODELS.register_module()
class HybridStem(nn.Module):
    """Embed patches by a ResNet with weight standardisation and group norm and a 1x1 projection (hybrid ViT, ACR).

    Args:
        img_size: (H, W) that gives ``init_out_size``, the grid of the position embeddings.
        patch_size: side of a patch, the stride of the ResNet: 4 times 2 for every stage after the first.
        embed_dims: channels of a token.
        stem_channels, channels, depths: of the first convolution and of the stages; the defaults are those of
            R50+ViT-B/16.
        groups: of the group norms.

    Raises:
        ValueError: the number of stages does not give ``patch_size``.
    """

    def __init__(
        self,
        img_size: tuple[int, int],
        patch_size: int,
        embed_dims: int,
        in_channels: int = 3,
        stem_channels: int = 64,
        channels: Sequence[int] = (256, 512, 1024),
        depths: Sequence[int] = (3, 4, 9),
        groups: int = 32,
    ) -> None:
        super().__init__()
        stride = STEM_STRIDE * 2 ** (len(channels) - 1)
        if stride != patch_size or len(depths) != len(channels):
            raise ValueError(
                f'HybridStem with {len(channels)} stages of channels and {len(depths)} depths has stride {stride}, but '
                f'patch_size is {patch_size}; make them fit'
            )
        self.init_out_size = tuple(side // patch_size for side in img_size)
        self.backbone = _ResNet(in_channels, stem_channels, channels, depths, groups)
        self.projection = nn.Conv2d(channels[-1], embed_dims, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens (B, h*w, D) and the grid (h, w) of ``images`` (B, 3, H, W)."""
        maps = self.projection(self.backbone(images))
        return maps.flatten(2).transpose(1, 2), tuple(maps.shape[-2:])
