"""Segmentation head with a large field of view."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from mmwsss.registry import MODELS


@MODELS.register_module()
class LargeFOVHead(BaseDecodeHead):
    """Two dilated 3x3 convolutions and a 1x1 classifier, none with a bias or a norm (DeepLab-LargeFOV, as in CoSA).

    Weights keep PyTorch's default draw unless ``init_cfg`` says otherwise.

    Args:
        in_channels: channels of the patch features.
        channels: channels of both hidden maps.
        num_classes: classes C including the background, which is channel 0.
        dilation: of both 3x3 convolutions; they are padded by it, so that the grid keeps its size.
        in_index: which of the given features are read.
        init_cfg: how ``init_weights`` starts.
        kwargs: other options of mmseg's ``BaseDecodeHead``, such as ``loss_decode``.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 512,
        *,
        num_classes: int,
        dilation: int = 5,
        in_index: int = -1,
        init_cfg: dict | list[dict] | None = None,
        **kwargs,
    ) -> None:
        kwargs.setdefault('dropout_ratio', 0.0)
        super().__init__(in_channels, channels, num_classes=num_classes, in_index=in_index, init_cfg=init_cfg, **kwargs)
        self.dilation = dilation
        self.conv6 = nn.Conv2d(in_channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.conv7 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.conv_seg = nn.Conv2d(channels, self.out_channels, 1, bias=False)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits (B, C, h, w) of the features (B, D, h, w) at ``in_index`` of ``inputs``."""
        features = self._transform_inputs(inputs)
        return self.cls_seg(F.relu(self.conv7(F.relu(self.conv6(features)))))
