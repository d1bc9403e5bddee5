"""Classifier on the class token of a vision transformer."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmwsss.registry import MODELS


@MODELS.register_module()
class ClassTokenHead(BaseModule):
    """Linear classifier on the class token; applied to the patches it gives their CAM (ACR, sec. 2).

    Args:
        in_channels: channels of a token.
        num_classes: classes including the background, which has no output here.
        init_cfg: how ``init_weights`` starts; without it the classifier keeps PyTorch's default draw.
    """

    def __init__(self, in_channels: int, num_classes: int, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.classifier = nn.Linear(in_channels, num_classes - 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, K) of the class token in ``tokens`` (B, 1 + N, D)."""
        return self.classifier(tokens[:, 0])

    def patch_logits(self, features: Tensor) -> Tensor:
        """Activation (B, K, h, w) of each class in the patches of ``features`` (B, D, h, w), before ReLU."""
        return self.classifier(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
