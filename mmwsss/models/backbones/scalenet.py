"""ScaleNet: residual blocks that aggregate several scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmwsss.registry import MODELS

from .resnet38d import batch_norms
from .scalenet_structures import STRUCTURES

POOLS = (1, 2, 4, 7)
EXPANSION = 4
STAGES = 4


class ScaleBlock(nn.Module):
    """Bottleneck whose 3x3 convolutions run at up to four scales (Li et al., CVPR 2019, arXiv 1904.09460).

    Args:
        in_channels: of the input.
        channels: of the 1x1 convolution before the branches; the block ends with four times as many.
        structure: channels of the four branches, where 0 leaves a branch out, and the side of the map in ImageNet
            training, which tells branches whose map had one pixel there; they have 1x1 kernels.
        stride: of a max pooling in front of the block.
        downsample: adapt the shortcut by a 1x1 convolution.
        dilation: of the 3x3 convolutions.
        official_small_pool: pool maps that are smaller than the pool as the official code does, which sees the first
            columns only; otherwise the whole map is pooled.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        structure: Sequence[int],
        stride: int = 1,
        downsample: bool = False,
        dilation: int = 1,
        official_small_pool: bool = False,
    ) -> None:
        super().__init__()
        *widths, side = structure
        self.stride = stride
        self.official_small_pool = official_small_pool
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        kernels = {i: 1 if side / 2**i <= 1 else 3 for i, width in enumerate(widths) if width}
        self.conv2 = nn.ModuleDict(
            {
                str(i): nn.Conv2d(
                    channels, widths[i], kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False
                )
                for i, kernel in kernels.items()
            }
        )
        self.bn2 = nn.ModuleDict({str(i): nn.BatchNorm2d(widths[i]) for i in kernels})
        self.conv3 = nn.Conv2d(sum(widths), EXPANSION * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(EXPANSION * channels)
        self.downsample = None
        if downsample:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, EXPANSION * channels, 1, bias=False), nn.BatchNorm2d(EXPANSION * channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = F.max_pool2d(x, self.stride)
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn1(self.conv1(x)).relu()
        branches = [self._branch(name, x) for name in self.conv2]
        x = self.bn3(self.conv3(torch.cat(branches, dim=1).relu()))
        return (x + shortcut).relu()

    def _branch(self, name: str, x: Tensor) -> Tensor:
        size, pool = tuple(x.shape[-2:]), POOLS[int(name)]
        out = self.conv2[name](x if pool == 1 else self._pooled(x, pool))
        small = tuple(out.shape[-2:])
        if small != size:
            whole = all(side % part == 0 for side, part in zip(size, small))
            rule = dict(mode='nearest') if whole else dict(mode='bilinear', align_corners=False)
            out = F.interpolate(out, size=size, **rule)
        return self.bn2[name](out)

    def _pooled(self, x: Tensor, pool: int) -> Tensor:
        height, width = x.shape[-2:]
        if min(height, width) >= pool:
            return F.max_pool2d(x, pool)
        if self.official_small_pool:
            return F.max_pool2d(x, height, width)
        return F.adaptive_max_pool2d(x, 1)


@MODELS.register_module()
class ScaleNet(BaseModule):
    """ResNet of :class:`ScaleBlock` (Li et al., CVPR 2019), with the names of the official weights.

    Args:
        structure: name in :data:`STRUCTURES`, or rows as :class:`ScaleBlock` takes them, one per block.
        depths: blocks of the four stages, for a structure given by rows.
        strides, dilations: of the four stages.
        frozen_stages: 1 freezes the stem and the first stage, as for maps; 0 freezes nothing.
        norm_eval: keep batch norms in inference mode, with frozen weights.
        official_small_pool: see :class:`ScaleBlock`.
        init_cfg: how ``init_weights`` starts.

    Raises:
        ValueError: unknown ``structure``, rows that do not fit ``depths``, or not one setting for each stage.
    """

    def __init__(
        self,
        structure: str | Sequence[Sequence[int]] = 'scalenet101',
        depths: Sequence[int] = (3, 4, 23, 3),
        strides: Sequence[int] = (1, 2, 1, 1),
        dilations: Sequence[int] = (1, 1, 1, 1),
        frozen_stages: int = 1,
        norm_eval: bool = True,
        official_small_pool: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if isinstance(structure, str):
            if structure not in STRUCTURES:
                raise ValueError(f'ScaleNet.structure has to be one of {tuple(STRUCTURES)} or rows, got {structure!r}')
            depths, structure = STRUCTURES[structure]
        if not 0 <= frozen_stages <= STAGES:
            raise ValueError(f'ScaleNet.frozen_stages has to be 0 to {STAGES}, got {frozen_stages!r}')
        if any(len(settings) != STAGES for settings in (depths, strides, dilations)):
            raise ValueError(f'ScaleNet needs {STAGES} depths, strides and dilations, one of each stage')
        if any(len(row) != len(POOLS) + 1 for row in structure):
            raise ValueError(f'rows of ScaleNet.structure need {len(POOLS)} widths and a side, got {structure}')
        if len(structure) != sum(depths):
            raise ValueError(f'ScaleNet needs one row of its structure per block, {sum(depths)}, got {len(structure)}')
        self.norm_eval = norm_eval
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        rows, in_channels = iter(structure), 64
        for i, (depth, stride, dilation) in enumerate(zip(depths, strides, dilations)):
            channels, blocks = 64 * 2**i, []
            for j in range(depth):
                block = ScaleBlock(
                    in_channels,
                    channels,
                    next(rows),
                    stride=1 if j else stride,
                    downsample=j == 0,
                    dilation=dilation,
                    official_small_pool=official_small_pool,
                )
                blocks.append(block)
                in_channels = EXPANSION * channels
            self.add_module(f'layer{i + 1}', nn.Sequential(*blocks))
        self._freeze(frozen_stages)

    def _freeze(self, stages: int) -> None:
        self.frozen = ['conv1', 'bn1', *(f'layer{i + 1}' for i in range(stages))] if stages else []
        for name in self.frozen:
            getattr(self, name).requires_grad_(False)
        if self.norm_eval:
            for norm in batch_norms(self):
                norm.requires_grad_(False)

    def train(self, mode: bool = True) -> ScaleNet:
        """Switch to training or inference mode; batch norms of frozen parts, or all with ``norm_eval``, do not."""
        super().train(mode)
        for part in [self] if self.norm_eval else [getattr(self, name) for name in self.frozen]:
            for norm in batch_norms(part):
                norm.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features (256, 512, 1024, 2048 channels) of the four stages for images (B, 3, H, W)."""
        x = F.max_pool2d(self.bn1(self.conv1(images)).relu(), 3, 2, padding=1)
        outputs = []
        for i in range(STAGES):
            x = getattr(self, f'layer{i + 1}')(x)
            outputs.append(x)
        return tuple(outputs)
