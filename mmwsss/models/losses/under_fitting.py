"""Cross entropy that stops fitting hard pixels once the others fit."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmseg.models.losses.utils import get_class_weight
from torch import Tensor, nn

from mmwsss.registry import MODELS

FORMS = ('none', 'clamp', 'pow', 'ignore')


def under_fitting_cross_entropy(
    logits: Tensor,
    mask: Tensor,
    form: str = 'clamp',
    beta: float = 0.5,
    k: float = 0.5,
    weights: Tensor | None = None,
    class_weights: Tensor | None = None,
    ignore_index: int = 255,
) -> Tensor:
    """Mean cross entropy over all pixels, of a network that pretends to under-fit (PMM, PUF).

    Ignored pixels count as 0. Where the plain mean is below ``beta``, the pixels with a large loss, whose pseudo labels
    are likely to be wrong, are held back: 'clamp' cuts the loss of a pixel at ``k``, so that it has no gradient above;
    'pow' takes (loss + 1e-9) ** k; 'ignore' leaves out what is above ``k``.

    Args:
        logits: (B, C, H, W).
        mask: (B, H, W) int64.
        form: 'none', 'clamp', 'pow' or 'ignore'.
        weights: (B, H, W) factors of pixels, applied after that; None for 1.
        class_weights: (C,) factors of classes; None for 1.
    """
    losses = F.cross_entropy(logits, mask, class_weights, reduction='none', ignore_index=ignore_index)
    held = losses
    if form == 'clamp':
        held = losses.clamp(max=k)
    elif form == 'pow':
        held = (losses + 1e-9) ** k
    elif form == 'ignore':
        held = losses * (losses <= k)
    if form != 'none':
        losses = torch.where(losses.mean() < beta, held, losses)
    return (losses if weights is None else losses * weights).mean()


@MODELS.register_module()
class UnderFittingCrossEntropyLoss(nn.Module):
    """Pretended under-fitting for any decode head of mmseg; see :func:`under_fitting_cross_entropy`.

    Each head decides by its own mean over the images of one process.

    Args:
        form, beta, k: see :func:`under_fitting_cross_entropy`.
        class_weight: factors of the classes, as mmseg's losses take them.
        loss_weight: weight of the loss.
        loss_name: of the entry in the log; it has to start with ``loss_``.

    Raises:
        ValueError: unknown ``form``.
    """

    def __init__(
        self,
        form: str = 'clamp',
        beta: float = 0.5,
        k: float = 0.5,
        class_weight: list[float] | str | None = None,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_ce',
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f'UnderFittingCrossEntropyLoss.form has to be one of {FORMS}, got {form!r}')
        self.form, self.beta, self.k = form, beta, k
        self.class_weight = get_class_weight(class_weight)
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(
        self, cls_score: Tensor, label: Tensor, weight: Tensor | None = None, ignore_index: int = 255, **kwargs
    ) -> Tensor:
        """Loss of logits (B, C, H, W) and mask (B, H, W), as mmseg's decode heads call it."""
        classes = None if self.class_weight is None else cls_score.new_tensor(self.class_weight, dtype=torch.float)
        return self.loss_weight * under_fitting_cross_entropy(
            cls_score.float(), label, self.form, self.beta, self.k, weight, classes, ignore_index
        )
