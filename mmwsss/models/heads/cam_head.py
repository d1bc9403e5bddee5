"""Class activation maps of a classifier on pooled patch features."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmwsss.pseudo_labels.normalize import as_single
from mmwsss.registry import MODELS, POOLINGS

DETACH = ('none', 'features', 'weights', 'all')
POOLED = ('features', 'maps')


@MODELS.register_module()
class CAMHead(BaseModule):
    """Linear classifier on pooled patch features; its weights applied to each patch are the CAM (Zhou et al. 2016).

    Args:
        in_channels: channels of the patch features.
        num_classes: classes including the background, which has no channel here.
        dropout: rate before the classifier, for the image logits only.
        pooling: config of a registered pooling.
        pool: what is pooled, 'features' before the classifier, so that with max pooling (CoSA) an image logit is not
            the peak of its map; or 'maps', so that a pooling that selects patches does so for every class.
        detach: what of the maps takes no gradient, 'none', 'features', 'weights' or 'all' ('none', 'feat', 'cls' and
            'all' in the code of CoSA); image logits always pass gradients to both.
        init_std: the classifier starts from N(0, ``init_std``), with None from PyTorch's default draw (CoSA).
        init_cfg: how ``init_weights`` starts; without it the classifier keeps its first draw.

    Raises:
        ValueError: unknown ``detach`` or ``pool``.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        dropout: float = 0.0,
        pooling: dict | None = None,
        pool: str = 'features',
        detach: str = 'none',
        init_std: float | None = 0.01,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if detach not in DETACH:
            raise ValueError(f'CAMHead.detach has to be one of {DETACH}, got {detach!r}')
        if pool not in POOLED:
            raise ValueError(f'CAMHead.pool has to be one of {POOLED}, got {pool!r}')
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.detach = detach
        self.pool = pool
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
        """Classification logits (B, K) of ``features`` (B, D, h, w): of their pooled patches, or pooled from all."""
        if self.pool == 'maps':
            return self.pooling(self.pooled_maps(features))
        return self.classifier(self.dropout(self.pooling(features)[:, :, None, None])).flatten(1)

    def pooled_maps(self, features: Tensor) -> Tensor:
        """Patch scores (B, K, h, w) that the pooling turns into image logits, float32 also in mixed precision.

        Raises:
            ValueError: it pools features, not the scores of classes.
        """
        if self.pool != 'maps':
            raise ValueError("this CAMHead pools features, so that no patch is chosen for a class; set pool='maps'")
        return as_single(self.classifier(self.dropout(features)))
