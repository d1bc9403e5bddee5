"""Class activation maps of a classifier on pooled patch features."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmwsss.registry import MODELS, POOLINGS

DETACH = ('none', 'features', 'weights', 'all')


@MODELS.register_module()
class CAMHead(BaseModule):
    """Linear classifier on pooled patch features; its weights applied to each patch are the CAM (Zhou et al. 2016).

    Args:
        in_channels: channels of the patch features.
        num_classes: classes including the background, which has no channel here.
        dropout: rate before the classifier, for the image logits only.
        pooling: config of a registered pooling, applied to the features before the classifier; so with max pooling
            (CoSA) an image logit is not the peak of its map.
        detach: what of the maps takes no gradient, 'none', 'features', 'weights' or 'all' ('none', 'feat', 'cls' and
            'all' in the code of CoSA); image logits always pass gradients to both.
        init_std: the classifier starts from N(0, ``init_std``), with None from PyTorch's default draw (CoSA).
        init_cfg: how ``init_weights`` starts; without it the classifier keeps its first draw.

    Raises:
        ValueError: unknown ``detach``.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        dropout: float = 0.0,
        pooling: dict | None = None,
        detach: str = 'none',
        init_std: float | None = 0.01,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if detach not in DETACH:
            raise ValueError(f'CAMHead.detach has to be one of {DETACH}, got {detach!r}')
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.detach = detach
        self.dropout = nn.Dropout(dropout)
        self.pooling = POOLINGS.build(pooling or dict(type='GlobalAveragePooling'))
        self.classifier = nn.Conv2d(in_channels, num_classes - 1, 1, bias=False)
        if init_std is not None:
            nn.init.normal_(self.classifier.weight, std=init_std)

    def forward(self, features: Tensor) -> Tensor:
        """Activation (B, K, h, w) of each foreground class in each patch of ``features`` (B, D, h, w), before ReLU."""
        weight = self.classifier.weight
        if self.detach in ('features', 'all'):
            features = features.detach()
        if self.detach in ('weights', 'all'):
            weight = weight.detach()
        return F.conv2d(features, weight)

    def image_logits(self, features: Tensor) -> Tensor:
        """Classification logits (B, K): the classifier on the pooled patches of ``features`` (B, D, h, w)."""
        return self.classifier(self.dropout(self.pooling(features)[:, :, None, None])).flatten(1)
