"""Wide ResNet of 38 layers with dilated last stages."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmwsss.registry import MODELS

# Stage, blocks, input, inner and output channels, stride and dilation of its first block, dilation of the others.
STAGES = (
    ('b2', 3, 64, 128, 128, 2, 1, 1),
    ('b3', 3, 128, 256, 256, 2, 1, 1),
    ('b4', 6, 256, 512, 512, 2, 1, 1),
    ('b5', 3, 512, 512, 1024, 1, 1, 2),
)


def batch_norms(module: nn.Module) -> list[nn.Module]:
    """All batch norms inside ``module``."""
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """Convolution without bias that keeps the size at stride 1."""
    return nn.Conv2d(
        in_channels, out_channels, kernel, stride, padding=dilation * (kernel // 2), dilation=dilation, bias=False
    )


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each after batch norm and ReLU.

    Args:
        first_dilation: of the first convolution, ``dilation`` is that of the second.
    """

    def __init__(
        self,
        in_channels: int,
        inner_channels: int,
        out_channels: int,
        stride: int = 1,
        first_dilation: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(in_channels)
        self.conv_branch2a = conv(in_channels, inner_channels, 3, stride, first_dilation)
        self.bn_branch2b1 = nn.BatchNorm2d(inner_channels)
        self.conv_branch2b1 = conv(inner_channels, out_channels, 3, dilation=dilation)
        same = in_channels == out_channels and stride == 1
        self.conv_branch1 = None if same else conv(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Output of the block and its pre-activation, the input after norm and ReLU."""
        active = self.bn_branch2a(x).relu()
        shortcut = x if self.conv_branch1 is None else self.conv_branch1(active)
        out = self.conv_branch2b1(self.bn_branch2b1(self.conv_branch2a(active)).relu())
        return out + shortcut, active


class PreActBottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each after batch norm and ReLU, with dropout before the last two."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int, dropout: float) -> None:
        super().__init__()
        quarter, half = out_channels // 4, out_channels // 2
        self.bn_branch2a = nn.BatchNorm2d(in_channels)
        self.conv_branch2a = conv(in_channels, quarter, 1)
        self.bn_branch2b1 = nn.BatchNorm2d(quarter)
        self.conv_branch2b1 = conv(quarter, half, 3, dilation=dilation)
        self.bn_branch2b2 = nn.BatchNorm2d(half)
        self.conv_branch2b2 = conv(half, out_channels, 1)
        self.conv_branch1 = conv(in_channels, out_channels, 1)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Output of the block and its pre-activation, the input after norm and ReLU."""
        active = self.bn_branch2a(x).relu()
        out = self.conv_branch2b1(self.dropout(self.bn_branch2b1(self.conv_branch2a(active)).relu()))
        out = self.conv_branch2b2(self.dropout(self.bn_branch2b2(out).relu()))
        return out + self.conv_branch1(active), active


@MODELS.register_module()
class ResNet38d(BaseModule):
    """Pre-activation wide ResNet with output stride 8 (Wu et al., arXiv 1611.10080, as in SEAM and PMM).

    The names of its weights are those of the official files.

    Args:
        last_dilation: of block b7, 2 in the network that makes maps, 4 in the one that segments.
        dropout: of the blocks b6 and b7.
        frozen_stages: 2 freezes the first convolution and stage b2, as for maps; 0 freezes nothing.
        norm_eval: keep batch norms in inference mode, with frozen weights.
        init_cfg: how ``init_weights`` starts.

    Raises:
        ValueError: ``frozen_stages`` is none of 0 to 5.
    """

    def __init__(
        self,
        last_dilation: int = 2,
        dropout: tuple[float, float] = (0.3, 0.5),
        frozen_stages: int = 2,
        norm_eval: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if frozen_stages not in range(6):
            raise ValueError(f'ResNet38d.frozen_stages has to be 0 to 5, got {frozen_stages!r}')
        self.norm_eval = norm_eval
        self.conv1a = conv(3, 64, 3)
        self.blocks: list[str] = []
        for name, depth, first, inner, out, stride, first_dilation, dilation in STAGES:
            for i in range(depth):
                block = PreActBlock(
                    out if i else first,
                    inner,
                    out,
                    stride=1 if i else stride,
                    first_dilation=dilation if i else first_dilation,
                    dilation=dilation,
                )
                self._add(f'{name}_{i}' if i else name, block)
        self._add('b6', PreActBottleneck(1024, 2048, 4, dropout[0]))
        self._add('b7', PreActBottleneck(2048, 4096, last_dilation, dropout[1]))
        self.bn7 = nn.BatchNorm2d(4096)
        self._freeze(frozen_stages)

    def _add(self, name: str, block: nn.Module) -> None:
        self.add_module(name, block)
        self.blocks.append(name)

    def _freeze(self, stages: int) -> None:
        self.frozen = ['conv1a', *(name for name in self.blocks if int(name[1]) <= stages)] if stages else []
        for name in self.frozen:
            getattr(self, name).requires_grad_(False)
        if self.norm_eval:
            for norm in batch_norms(self):
                norm.requires_grad_(False)

    def train(self, mode: bool = True) -> ResNet38d:
        """Switch to training or inference mode; batch norms of frozen parts, or all with ``norm_eval``, do not."""
        super().train(mode)
        for part in [self] if self.norm_eval else [getattr(self, name) for name in self.frozen]:
            for norm in batch_norms(part):
                norm.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pre-activations of b4 (256 channels), b5 (512) and b6 (1024), and the last features (4096)."""
        x, taps = self.conv1a(images), {}
        for name in self.blocks:
            x, taps[name] = getattr(self, name)(x)
        return taps['b4'], taps['b5'], taps['b6'], self.bn7(x).relu()
