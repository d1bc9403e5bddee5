"""Weight penalty of the patch classifier."""

from __future__ import annotations

from torch import Tensor, nn

from mmwsss.registry import MODELS


def classifier_l2(weight: Tensor, factor: float = 0.01) -> Tensor:
    """``factor`` times the sum of squares of a classifier's ``weight``, not halved, not averaged (ViT-PCM, L_REG)."""
    return factor * weight.float().square().sum()


@MODELS.register_module()
class ClassifierL2(nn.Module):
    """Module form of :func:`classifier_l2`."""

    def __init__(self, factor: float = 0.01) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, weight: Tensor) -> Tensor:
        return classifier_l2(weight, self.factor)
