"""A training step of ACR written plainly: two forward passes, the mirrored attention put back place by place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from step_batches import Batch
from step_clock import LOSSES, STUDENT
from torch import Tensor, nn

from mmwsss.models.heads import ClassTokenHead
from mmwsss.models.losses import ConsistencyLoss, MultiLabelSoftMarginLoss
from mmwsss.models.segmentors import ACR

from .base import Reference, reads
from .vit import PlainViT, copy_weights


class PlainACRNetwork(nn.Module):
    """ViT with a classifier of its class token; parts are named as in :class:`ACR`."""

    def __init__(self, like: ACR) -> None:
        super().__init__()
        self.backbone = PlainViT(like.backbone)
        self.head = nn.Module()
        self.head.classifier = nn.Linear(like.head.in_channels, like.num_classes - 1)
        copy_weights(self.head, like.head)
        self.attention_gradients: list[Tensor] = []

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K) of the class token, and the attention (B, layers, 1 + N, 1 + N) averaged over heads."""
        taken, attention, _ = self.backbone.tokens(images)
        # The released code keeps the gradient of every matrix during training too, and classifies the mean patch.
        self.attention_gradients.clear()
        for weights in attention:
            weights.register_hook(self.attention_gradients.append)
        self.head.classifier(taken[-1][:, 1:].mean(dim=1))
        return self.head.classifier(taken[-1][:, 0]), torch.stack([weights.mean(dim=1) for weights in attention], dim=1)


class PlainACR(Reference):
    """Classification of an image and of its mirror image, and the distance of their attention."""

    def build(self, model: ACR) -> nn.Module:
        if not isinstance(model, ACR) or not isinstance(model.head, ClassTokenHead):
            raise ValueError('the model is no ACR with a ClassTokenHead; the reference only knows that one')
        if model.consistency is None or not isinstance(model.loss_cls, MultiLabelSoftMarginLoss):
            raise ValueError('the model has no consistency or another loss_cls; give the config of a released variant')
        reads(model.consistency, transform='hflip', activation='class_token', attention_layers='all')
        for name in ('loss_activation', 'loss_affinity'):
            if not isinstance(loss := getattr(model.consistency, name), ConsistencyLoss) or loss.norm != 'l1':
                raise ValueError(f'{name} of the model is no ConsistencyLoss of norm l1; the reference only knows that')
        return PlainACRNetwork(model)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of both views."""
        images, consistency = batch.views['view_1'], self.settings.consistency
        with self.clock.section(STUDENT):
            logits, attention = self.network(images)
            moved_logits, moved = self.network(images.flip(-1))
        with self.clock.section(LOSSES):
            moved = put_back(moved, images.shape[-1] // self.settings.backbone.patch_size)
            activation = (attention[:, :, 0, 1:] - moved[:, :, 0, 1:]).abs().mean()
            affinity = (attention[:, :, 1:, 1:] - moved[:, :, 1:, 1:]).abs().mean()
            return dict(
                loss_cls=F.multilabel_soft_margin_loss(logits, batch.labels),
                loss_cls_moved=F.multilabel_soft_margin_loss(moved_logits, batch.labels),
                loss_act=consistency.loss_activation.loss_weight * activation,
                loss_aff=consistency.loss_affinity.loss_weight * affinity,
            )


def put_back(attention: Tensor, side: int) -> Tensor:
    """Attention (B, L, 1 + N, 1 + N) of mirrored square images in the order of the images, row by row of patches."""
    attention = attention.clone()
    for start in range(1, attention.shape[-1], side):
        row = slice(start, start + side)
        attention[:, :, :, row] = attention[:, :, :, row].flip(-1)
    for start in range(1, attention.shape[-1], side):
        row = slice(start, start + side)
        attention[:, :, row] = attention[:, :, row].flip(-2)
    return attention
