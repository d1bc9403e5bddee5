"""Agreement of what a network says about two views of an image."""

from __future__ import annotations

from torch import Tensor, nn

from mmwsss.registry import MODELS

NORMS = ('l1', 'l2')


def consistency_loss(first: Tensor, second: Tensor, norm: str = 'l1') -> Tensor:
    """Mean absolute ('l1') or squared ('l2') difference of two tensors of one shape (ACR, L_act and L_aff).

    Gradients flow into both.
    """
    difference = first - second
    return difference.abs().mean() if norm == 'l1' else difference.square().mean()


@MODELS.register_module()
class ConsistencyLoss(nn.Module):
    """Module form of :func:`consistency_loss` times ``loss_weight``.

    Raises:
        ValueError: unknown ``norm``.
    """

    def __init__(self, norm: str = 'l1', loss_weight: float = 1.0) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f'ConsistencyLoss.norm has to be one of {NORMS}, got {norm!r}')
        self.norm = norm
        self.loss_weight = loss_weight

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.loss_weight * consistency_loss(first.float(), second.float(), self.norm)
