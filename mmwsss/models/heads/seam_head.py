"""Maps and their refinement by the similarity of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmwsss.registry import MODELS

EPS = 1e-5


def exclusive_foreground(maps: Tensor) -> Tensor:
    """Set foreground values of ``maps`` (B, C, h, w) that are not the best of their pixel to 0; channel 0 stays."""
    foreground = maps[:, 1:]
    best = foreground.amax(dim=1, keepdim=True)
    return torch.cat((maps[:, :1], torch.where(foreground == best, foreground, 0)), dim=1)


def pixel_correlation(features: Tensor, maps: Tensor) -> Tensor:
    """Spread ``maps`` (B, C, h, w) by the rectified cosine similarity of ``features`` (B, D, h, w) (SEAM, PCM).

    The similarities that reach a pixel are brought to a sum of 1.
    """
    directions = features.flatten(2)
    directions = directions / (directions.norm(dim=1, keepdim=True) + EPS)
    similarity = (directions.transpose(1, 2) @ directions).relu()
    similarity = similarity / (similarity.sum(dim=1, keepdim=True) + EPS)
    return (maps.flatten(2) @ similarity).view_as(maps)


@MODELS.register_module()
class SEAMHead(BaseModule):
    """Class maps of a dilated network and their refinement by pixel correlation (SEAM, CVPR 2020; PMM, sec. 2.2).

    Args:
        in_channels: of the two taps and of the last features, or one number for all, as in a transformer.
        num_classes: classes C including the background, which has a channel here.
        tap_channels: that the taps are brought to.
        channels: of the features whose similarity is measured.
        dropout: before the classifier.
        init_cfg: how ``init_weights`` starts.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        num_classes: int,
        tap_channels: Sequence[int] = (64, 128),
        channels: int = 192,
        dropout: float = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_classes = num_classes
        first, second, last = [in_channels] * 3 if isinstance(in_channels, int) else in_channels
        self.dropout = nn.Dropout2d(dropout)
        self.fc8 = nn.Conv2d(last, num_classes, 1, bias=False)
        self.f8_3 = nn.Conv2d(first, tap_channels[0], 1, bias=False)
        self.f8_4 = nn.Conv2d(second, tap_channels[1], 1, bias=False)
        self.f9 = nn.Conv2d(3 + sum(tap_channels), channels, 1, bias=False)
        nn.init.kaiming_normal_(self.f8_3.weight)
        nn.init.kaiming_normal_(self.f8_4.weight)
        nn.init.xavier_uniform_(self.f9.weight, gain=4)

    def forward(self, images: Tensor, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps and refined maps, (B, C, h, w) each, at the size of the last features.

        Args:
            images: (B, 3, H, W), whose colours take part in the similarity.
            features: the taps (B, D1, h1, w1) and (B, D2, h2, w2), no gradient flows into them, and the last features.
        """
        first, second, last = features
        cam = self.fc8(self.dropout(last))
        return cam, pixel_correlation(
            self.similarity_features(images, first, second), self.normalized(cam.detach()).to(cam)
        )

    def similarity_features(self, images: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Features (B, D, h, w) whose similarity spreads the maps."""
        size = second.shape[-2:]
        taps = self.f8_3(first.detach()).relu(), self.f8_4(second.detach()).relu()
        parts = (images, *taps)
        resized = [
            part if part.shape[-2:] == size else F.interpolate(part, size, mode='bilinear', align_corners=True)
            for part in parts
        ]
        return self.f9(torch.cat(resized, dim=1))

    @staticmethod
    def normalized(cam: Tensor) -> Tensor:
        """Maps (B, C, h, w) in [0, 1], the background 1 - best class, only the best class left in each pixel."""
        cam = cam.float().relu()
        cam = (cam - EPS).relu() / (cam.amax(dim=(-2, -1), keepdim=True) + EPS)
        foreground = cam[:, 1:]
        background = 1 - foreground.amax(dim=1, keepdim=True)
        return exclusive_foreground(torch.cat((background, foreground), dim=1))
