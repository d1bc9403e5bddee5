"""The affinity network of PSA (Ahn and Kwak, CVPR 2018, arXiv 1803.10464), an optional stage of PMM's release."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmseg.structures import SegDataSample
from torch import Tensor

from mmwsss.refiners.affinity import fitted_radius, pair_affinity, pair_indices, pair_labels, pair_matrix
from mmwsss.registry import MODELS


@MODELS.register_module()
class AffinityNetwork(BaseModel):
    """Learns from certain pseudo labels which neighbouring cells belong together; maps walk along what it learnt.

    It makes no masks: :class:`~mmwsss.refiners.NetworkAffinity` hands it to a random walk.

    Args:
        backbone: returns a tuple of features, such as ``ResNet38d``, ``ScaleNet`` or ``TokenViT`` with several
            ``out_indices``. The last features that are read give the cells; ResNet38d and ScaleNet make cells of 8
            pixels, a ViT of its patches.
        head: an :class:`~mmwsss.models.heads.AffinityHead`.
        loss_affinity: an :class:`~mmwsss.models.losses.AffinityLoss`.
        in_index: features that the head reads; (1, 2, 3) are the official ones of ResNet38d and ScaleNet, for a ViT all
            that it returns.
        radius: in cells, of the pairs; smaller on grids with less than 2 radius + 1 cells a side, see
            :func:`~mmwsss.refiners.affinity.fitted_radius`.
        scale: images are resized by this (bilinear) before the backbone; 2 lets a ViT with patches of 16 pixels make
            cells of 8.
        data_preprocessor, init_cfg: as in every model.

    Raises:
        ValueError: ``radius`` below 2 or ``scale`` not positive.
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        loss_affinity: dict,
        in_index: Sequence[int] = (1, 2, 3),
        radius: int = 5,
        scale: float = 1.0,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if radius < 2 or not scale > 0:
            raise ValueError(f'radius {radius} and scale {scale} of AffinityNetwork; expected at least 2 and above 0')
        self.backbone = MODELS.build(backbone)
        self.head = MODELS.build(head)
        self.loss_affinity = MODELS.build(loss_affinity)
        self.in_index = tuple(in_index)
        self.radius = radius
        self.scale = scale

    def forward(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None, mode: str = 'tensor'
    ) -> Tensor | dict[str, Tensor]:
        """Losses with ``mode='loss'``, features with 'tensor'.

        Raises:
            ValueError: another mode.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'tensor':
            return self.features(inputs)
        raise ValueError(
            f'AffinityNetwork has no mode {mode!r}, it makes no masks; give its config and checkpoint to '
            "RandomWalk: affinity=dict(type='NetworkAffinity', config=..., checkpoint=...)"
        )

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Loss of images (B, 3, H, W) whose samples have masks (1, h, w) on the grid of the features.

        Raises:
            ValueError: masks of another size than the features.
        """
        labels = torch.stack([sample.gt_sem_seg.data[0] for sample in data_samples])
        features = self.features(inputs)
        size = tuple(features.shape[-2:])
        if tuple(labels.shape[-2:]) != size:
            raise ValueError(
                f'AffinityNetwork makes {size[0]} x {size[1]} cells of images of {tuple(inputs.shape[-2:])}, the '
                f'labels have {tuple(labels.shape[-2:])}; set stride of LoadAffinityLabels or scale of the network'
            )
        radius = fitted_radius(self.radius, size)
        return dict(loss_affinity=self.loss_affinity(pair_affinity(features, radius), *pair_labels(labels, radius)))

    def features(self, images: Tensor) -> Tensor:
        """Joined features (B, D, h, w), float32, of normalised images (B, 3, H, W)."""
        if self.scale != 1:
            images = F.interpolate(images, scale_factor=self.scale, mode='bilinear', align_corners=False)
        taken = self.backbone(images)
        return self.head([taken[i] for i in self.in_index]).float()

    def affinity_matrix(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Affinity of all cells of normalised images (B, 3, H, W) and the grid (h, w) they form.

        Cells that are no pair have affinity 0, a cell with itself 1; see :func:`~mmwsss.refiners.affinity.pair_matrix`.

        Raises:
            ValueError: the grid has less than 5 cells a side.
        """
        features = self.features(images)
        size = tuple(features.shape[-2:])
        radius = fitted_radius(self.radius, size)
        values = pair_affinity(features, radius)
        return pair_matrix(values, *pair_indices(radius, size), size[0] * size[1]), size
