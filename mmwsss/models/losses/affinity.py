"""Loss on the affinities of pairs of cells (PSA, Ahn and Kwak, CVPR 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmwsss.registry import MODELS


def affinity_loss(
    affinity: Tensor, background: Tensor, foreground: Tensor, different: Tensor, eps: float = 1e-5
) -> Tensor:
    """Cross entropy of pair affinities, averaged for each kind of pair: background/4 + foreground/4 + different/2.

    Args:
        affinity: (B, P, M) in [0, 1].
        background, foreground, different: (B, P, M) masks of the pairs, see
            :func:`~mmwsss.refiners.affinity.pair_labels`.

    Returns:
        scalar; a kind without any pair contributes 0.
    """
    alike, unlike = -torch.log(affinity + eps), -torch.log(1 + eps - affinity)
    parts = ((alike, background, 1 / 4), (alike, foreground, 1 / 4), (unlike, different, 1 / 2))
    return sum(share * (mask * entropy).sum() / (mask.sum() + eps) for entropy, mask, share in parts)


@MODELS.register_module()
class AffinityLoss(nn.Module):
    """Balanced cross entropy of pair affinities; see :func:`affinity_loss`."""

    def __init__(self, eps: float = 1e-5, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.eps = eps
        self.loss_weight = loss_weight

    def forward(self, affinity: Tensor, background: Tensor, foreground: Tensor, different: Tensor) -> Tensor:
        return self.loss_weight * affinity_loss(affinity.float(), background, foreground, different, self.eps)
