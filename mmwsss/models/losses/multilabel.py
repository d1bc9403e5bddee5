"""Multi-label classification on image scores."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwsss.registry import MODELS


def multilabel_cls_loss(scores: Tensor, labels: Tensor, eps: float = 1e-7, eps_in_log: bool = True) -> Tensor:
    """Binary cross entropy between image scores and multi-hot labels, averaged over (B, C) (ViT-PCM and APC, L_MCE).

    Scores are clipped to [eps, 1 - eps]. torch's own binary cross entropy clamps logarithms at -100 instead, which
    gives other values for saturated softmax scores.

    Args:
        scores: (B, C) probabilities, background included when the classifier has one.
        labels: (B, C) multi-hot, same channels.
        eps_in_log: add ``eps`` inside the logarithms once more, as Keras and so ViT-PCM do.
    """
    p = scores.clamp(eps, 1 - eps)
    inner = eps if eps_in_log else 0.0
    return -(labels * torch.log(p + inner) + (1 - labels) * torch.log(1 - p + inner)).mean()


@MODELS.register_module()
class MultiLabelClsLoss(nn.Module):
    """Module form of :func:`multilabel_cls_loss` times ``loss_weight``."""

    def __init__(self, eps: float = 1e-7, eps_in_log: bool = True, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.eps = eps
        self.eps_in_log = eps_in_log
        self.loss_weight = loss_weight

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        # fp32: eps = 1e-7 vanishes beside 1 in half precision
        return self.loss_weight * multilabel_cls_loss(scores.float(), labels, self.eps, self.eps_in_log)


@MODELS.register_module()
class MultiLabelSoftMarginLoss(nn.Module):
    """Sigmoid cross entropy of image logits (B, K) and multi-hot labels (B, K), averaged over both (CoSA, L_cls).

    ``loss_weight`` times torch's ``multilabel_soft_margin_loss``.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.loss_weight * F.multilabel_soft_margin_loss(logits.float(), labels.float())
