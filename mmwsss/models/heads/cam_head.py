"""Class activation maps of a global-average-pooling classifier."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmwsss.registry import MODELS


@MODELS.register_module()
class CAMHead(BaseModule):
    """Linear classifier on averaged patch features; its weights applied to each patch are the CAM (Zhou et al. 2016).

    Args:
        in_channels: channels of the patch features.
        num_classes: classes including the background, which has no channel here.
    """

    def __init__(self, in_channels: int, num_classes: int, dropout: float = 0.0, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(in_channels, num_classes - 1, 1, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.01)

    def forward(self, features: Tensor) -> Tensor:
        """Activation (B, K, h, w) of each foreground class in each patch of ``features`` (B, D, h, w), before ReLU."""
        return self.classifier(features)

    def image_logits(self, features: Tensor) -> Tensor:
        """Classification logits (B, K): the classifier on the average of all patches."""
        return self.classifier(self.dropout(features.mean(dim=(-2, -1), keepdim=True))).flatten(1)
