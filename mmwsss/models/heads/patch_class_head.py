"""Patch classifier whose softmax maps are the localization maps."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmwsss.registry import MODELS, POOLINGS


@MODELS.register_module()
class PatchClassHead(BaseModule):
    """Classify every patch, background included, and pool the softmax into image scores (ViT-PCM, sec. 1).

    Args:
        in_channels: channels of the patch features.
        num_classes: classes C including the background, which is channel 0.
        dropout: rate before the classifier.
        pooling: config of a registered pooling, applied to the softmax.
        init_cfg: how ``init_weights`` starts; without it the classifier keeps its draw from N(0, 0.05).
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        dropout: float = 0.2,
        pooling: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(in_channels, num_classes, bias=False)
        self.pooling = POOLINGS.build(pooling or dict(type='GlobalMaxPooling'))
        nn.init.normal_(self.classifier.weight, std=0.05)

    def forward(self, features: Tensor) -> Tensor:
        """Patch logits (B, C, h, w) of ``features`` (B, D, h, w)."""
        return self.classifier(self.dropout(features).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def maps(self, features: Tensor) -> Tensor:
        """Localization maps (B, C, h, w): softmax over classes, float32; channel 0 is the background."""
        return self(features).float().softmax(dim=1)

    def image_scores(self, maps: Tensor) -> Tensor:
        """Image scores (B, C) pooled from the softmax ``maps``."""
        return self.pooling(maps)

    def pooled_maps(self, features: Tensor) -> Tensor:
        """Patch scores (B, C, h, w) that the pooling turns into image scores: the :meth:`maps`."""
        return self.maps(features)
