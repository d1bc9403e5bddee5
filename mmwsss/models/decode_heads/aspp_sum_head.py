"""Segmentation head of DeepLabV2."""

from __future__ import annotations

from collections.abc import Sequence

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from mmwsss.registry import MODELS


@MODELS.register_module()
class ASPPSumHead(BaseDecodeHead):
    """Sum of parallel dilated 3x3 classifiers on the same features (DeepLabV2, arXiv 1606.00915).

    mmseg's ``ASPPHead`` is that of DeepLabV3: its branches have norms, are concatenated and fused.

    Args:
        in_channels: channels of the features.
        num_classes: classes C including the background, which is channel 0.
        dilations: of the branches; each is padded by its own, so that the grid keeps its size.
        init_cfg: how ``init_weights`` starts; by default from a normal distribution of deviation 0.01.
        kwargs: other options of mmseg's ``BaseDecodeHead``, such as ``loss_decode``.

    Raises:
        ValueError: there is no dilation.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        dilations: Sequence[int] = (6, 12, 18, 24),
        init_cfg: dict | list[dict] | None = None,
        **kwargs,
    ) -> None:
        if not dilations:
            raise ValueError('ASPPSumHead needs at least one dilation, got none')
        kwargs.setdefault('dropout_ratio', 0.0)
        init_cfg = init_cfg or dict(type='Normal', std=0.01, layer='Conv2d')
        super().__init__(in_channels, in_channels, num_classes=num_classes, init_cfg=init_cfg, **kwargs)
        self.conv_seg = nn.ModuleList(
            nn.Conv2d(in_channels, self.out_channels, 3, padding=dilation, dilation=dilation) for dilation in dilations
        )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits (B, C, h, w) of the features (B, D, h, w) at ``in_index`` of ``inputs``."""
        features = self._transform_inputs(inputs)
        if self.dropout is not None:
            features = self.dropout(features)
        return sum(branch(features) for branch in self.conv_seg)
