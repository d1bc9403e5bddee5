"""Equivariance between the patch maps of two views."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmwsss.ops import apply_record, patch_level_records, undo_flips
from mmwsss.pseudo_labels import divide_no_nan, mask_maps_with_labels
from mmwsss.registry import MODELS


def equivariance_target(
    teacher: Tensor, records_1: Tensor, records_2: Tensor, patch_size: int, labels: Tensor | None
) -> Tensor:
    """Map the teacher's maps of view 1 into the frame of view 2 and turn them into a soft target.

    Args:
        teacher: (B, C, H, W) softmax maps of view 1.
        records_1: (B, 9) records of view 1 in pixels, of which flips and transpose are undone.
        records_2: (B, 9) records of view 2 in pixels, replayed at patch level.
        patch_size: side of a patch in pixels.
        labels: (B, C) multi-hot image labels, or None to keep the plain softmax.

    Returns:
        (B, C, h, w), channels of a patch summing to 1 (or 0).
    """
    target = apply_record(undo_flips(teacher, records_1), patch_level_records(records_2, patch_size))
    return target if labels is None else mask_maps_with_labels(target, labels)


def equivariance_loss(student: Tensor, target: Tensor, eps: float = 1e-7) -> Tensor:
    """Cross entropy of student maps against a soft target, averaged over (B, h, w) (ViT-PCM, L_ET).

    Args:
        student: (B, C, h, w) non-negative scores, renormalised over channels here.
        target: (B, C, h, w), no gradient flows into it.
    """
    p = divide_no_nan(student, student.sum(dim=1, keepdim=True)).clamp(eps, 1 - eps)
    return -(target.detach() * torch.log(p)).sum(dim=1).mean()


@MODELS.register_module()
class EquivarianceLoss(nn.Module):
    """The teacher's maps, brought into the student's frame, supervise the student (ViT-PCM, L_ET).

    ``use_labels`` masks the target with the image labels as the official code does; the paper's figure does not
    show it.
    """

    def __init__(self, use_labels: bool = True, eps: float = 1e-7, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.use_labels = use_labels
        self.eps = eps
        self.loss_weight = loss_weight

    def forward(
        self, student: Tensor, teacher: Tensor, records_1: Tensor, records_2: Tensor, patch_size: int, labels: Tensor
    ) -> Tensor:
        with torch.no_grad():
            target = equivariance_target(
                teacher.float(), records_1, records_2, patch_size, labels if self.use_labels else None
            )
        return self.loss_weight * equivariance_loss(student.float(), target, self.eps)
