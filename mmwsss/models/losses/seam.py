"""Losses of maps that should follow the scale of the image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwsss.models.heads.seam_head import exclusive_foreground
from mmwsss.pseudo_labels.normalize import as_single
from mmwsss.registry import MODELS


def rectified_min_max(maps: Tensor, eps: float = 1e-5) -> Tensor:
    """relu(p - min - eps) / (max - min + eps) with p = relu(maps), per image and channel of (B, C, h, w) (SEAM)."""
    maps = as_single(maps).relu()
    # One pixel takes the gradient of an extreme, as officially: sharing it among ties costs passes over all pixels.
    low, high = (
        extreme.values[..., None, None] for extreme in (maps.flatten(2).min(dim=2), maps.flatten(2).max(dim=2))
    )
    return (maps - low - eps).relu() / (high - low + eps)


def min_pooling_loss(maps: Tensor, labels: Tensor, share: int = 4) -> Tensor:
    """Mean of the smallest 1 / ``share`` of the pixels of the best present map, rectified (SEAM).

    Args:
        maps: (B, K, h, w) of the foreground classes.
        labels: (B, K) multi-hot.
    """
    best = (maps * labels[:, :, None, None]).amax(dim=1).flatten(1)
    count = max(best.shape[1] // share, 1)
    return best.topk(count, dim=1, largest=False).values.relu().sum() / (count * len(best))


def hardest_mean(errors: Tensor, share: float = 0.2, numbers: int | None = None) -> Tensor:
    """Mean of the largest ``share`` of the numbers of each image in ``errors`` (B, ...), none of which is negative.

    ``numbers`` says how many an image has where ``errors`` leaves some out that are 0.
    """
    flat = errors.flatten(1)
    count = max(int((numbers or flat.shape[1]) * share), 1)
    largest = flat if count >= flat.shape[1] else flat.topk(count, dim=1).values
    return largest.sum() / (count * len(flat))


@MODELS.register_module()
class EquivariantRegularization(nn.Module):
    """Equivariance of maps and of refined maps under a change of scale (SEAM; PMM, sec. 2.3).

    Args:
        hard_share: share of the numbers of an image that L_ECR looks at, the largest.
        er_weight, ecr_weight: weights of both losses.
    """

    def __init__(self, hard_share: float = 0.2, er_weight: float = 1.0, ecr_weight: float = 1.0) -> None:
        super().__init__()
        self.hard_share = hard_share
        self.er_weight, self.ecr_weight = er_weight, ecr_weight

    def forward(
        self,
        cams: tuple[Tensor, Tensor],
        refined: tuple[Tensor, Tensor],
        labels: Tensor,
        num_classes: int | None = None,
    ) -> dict[str, Tensor]:
        """``loss_er`` and ``loss_ecr``.

        Args:
            cams, refined: maps (B, C, H, W) of the image and (B, C, h, w) of the scaled one, background in channel 0.
            labels: (B, C) multi-hot, the background included.
            num_classes: classes over which the means go where the maps hold the present ones only, as absent classes
                add nothing but their number; None for C.
        """
        first, second = (self._comparable(pair, labels) for pair in (cams, refined))
        pixels = first[1][0, 0].numel()
        classes = num_classes or labels.shape[1]
        er = (first[0][:, 1:] - first[1][:, 1:]).abs().sum() / (len(labels) * (classes - 1) * pixels)
        targets = [exclusive_foreground(_with_background(cam)).detach() for cam in first]
        hard = [
            hardest_mean((target - maps).abs(), self.hard_share, classes * pixels)
            for target, maps in zip(reversed(targets), second)
        ]  # fmt: skip
        return dict(loss_er=self.er_weight * er, loss_ecr=self.ecr_weight * sum(hard))

    @staticmethod
    def _comparable(pair: tuple[Tensor, Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
        large, small = (rectified_min_max(maps) for maps in pair)
        large = F.interpolate(large, small.shape[-2:], mode='bilinear', align_corners=True)
        present = labels[:, :, None, None].to(small)
        return large * present, small * present


def _with_background(maps: Tensor) -> Tensor:
    foreground = maps[:, 1:]
    return torch.cat((1 - foreground.amax(dim=1, keepdim=True), foreground), dim=1)


@MODELS.register_module()
class MinPoolingLoss(nn.Module):
    """Module form of :func:`min_pooling_loss` times ``loss_weight``."""

    def __init__(self, share: int = 4, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.share = share
        self.loss_weight = loss_weight

    def forward(self, maps: Tensor, labels: Tensor) -> Tensor:
        return self.loss_weight * min_pooling_loss(as_single(maps), labels, self.share)
