"""The segmentation pseudo label supervises localization maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwsss.ops import RESIZERS
from mmwsss.registry import MODELS

from .balanced_ce import balanced_cross_entropy

VERSIONS = ('v1', 'v2', 'v3')
BACKGROUNDS = ('max', 'mean')


def raw_cam_loss(cam: Tensor, probabilities: Tensor, rectify: bool = True) -> Tensor:
    """Binary cross entropy of raw maps against segmentation probabilities, averaged over (B, K, h, w) (CoSA, L_s2c).

    With ``rectify`` negative logits count as 0: the sigmoid never falls below 1/2, the loss not below about ln 2 for
    absent classes, and negative logits get no gradient, as in the official code.

    Args:
        cam: (B, K, h, w) logits of the foreground classes.
        probabilities: (B, K + 1, H, W) with the background in channel 0; its foreground is brought to (h, w)
            bilinearly with half-pixel centres, and no gradient flows into it.
    """
    return _map_entropy(cam.relu() if rectify else cam, probabilities)


def normalized_cam_loss(
    cam: Tensor, probabilities: Tensor, rectify: bool = True, detach_range: bool = False, eps: float = 1e-4
) -> Tensor:
    """:func:`raw_cam_loss` of maps brought to [0, 1] by their minimum and maximum (variant of CoSA, L_s2c).

    ``detach_range`` stops the gradient of minimum and maximum, to which ``eps`` is added in the denominator.
    """
    return _map_entropy(unit_range(cam.relu() if rectify else cam, detach_range, eps), probabilities)


def cam_mask_loss(
    cam: Tensor,
    mask: Tensor,
    rectify: bool = True,
    detach_range: bool = False,
    background: str = 'max',
    fg_weight: float = 0.5,
    ignore_index: int = 255,
    eps: float = 1e-4,
) -> Tensor:
    """Balanced cross entropy of full-size maps against a segmentation mask (variant of CoSA, L_s2c).

    The maps are brought to [0, 1], get the background channel 1 - max (or mean) over classes, are enlarged
    bilinearly and then act as logits.

    Args:
        cam: (B, K, h, w) logits of the foreground classes.
        mask: (B, H, W) int64 of class indices 0..K; see :func:`confident_argmax`.
        background: 'max' or 'mean'.
        rectify, detach_range, eps: see :func:`normalized_cam_loss`.
        fg_weight, ignore_index: see :func:`~mmwsss.models.losses.balanced_ce.balanced_nll`.
    """
    maps = unit_range(cam.relu() if rectify else cam, detach_range, eps)
    best = maps.amax(dim=1, keepdim=True) if background == 'max' else maps.mean(dim=1, keepdim=True)
    scores = _to_size(torch.cat((1 - best, maps), dim=1), mask.shape[-2:])
    return balanced_cross_entropy(scores, mask, fg_weight, ignore_index=ignore_index)


def confident_argmax(probabilities: Tensor, confidence: float, ignore_index: int = 255) -> Tensor:
    """Best class (B, H, W) int64 of ``probabilities`` (B, C, H, W), ignored where its score is <= ``confidence``."""
    score, best = probabilities.max(dim=1)
    return torch.where(score <= confidence, ignore_index, best)


def unit_range(maps: Tensor, detach_range: bool = False, eps: float = 1e-4) -> Tensor:
    """(map - min) / (max - min + eps) of every map of (..., h, w); see :func:`normalized_cam_loss`."""
    fixed = maps.detach() if detach_range else maps
    low, high = fixed.amin(dim=(-2, -1), keepdim=True), fixed.amax(dim=(-2, -1), keepdim=True)
    return (maps - low) / (high - low + eps)


def _map_entropy(logits: Tensor, probabilities: Tensor) -> Tensor:
    target = _to_size(probabilities[:, 1:].detach(), logits.shape[-2:])
    return F.binary_cross_entropy_with_logits(logits, target.to(logits))


def _to_size(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if maps.shape[-2:] == size else RESIZERS['half_pixel'](maps, size)


@MODELS.register_module()
class SegToCAMLoss(nn.Module):
    """A segmentation pseudo label supervises the maps of the classifier (CoSA, L_s2c).

    Args:
        version: 'v1' is :func:`raw_cam_loss`, 'v2' :func:`normalized_cam_loss`, 'v3' :func:`cam_mask_loss` against
            the :func:`confident_argmax` of the probabilities.
        rectify: cut negative logits.
        detach_range, background, confidence, fg_weight, ignore_index: see these functions; the last four concern
            'v3' only.

    Raises:
        ValueError: unknown ``version`` or ``background``.
    """

    def __init__(
        self,
        version: str = 'v1',
        rectify: bool = True,
        detach_range: bool = False,
        background: str = 'max',
        confidence: float = 0.25,
        fg_weight: float = 0.5,
        ignore_index: int = 255,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        for name, value, known in (('version', version, VERSIONS), ('background', background, BACKGROUNDS)):
            if value not in known:
                raise ValueError(f'SegToCAMLoss: {name} {value!r} is none of {", ".join(known)}')
        self.version = version
        self.rectify = rectify
        self.detach_range = detach_range
        self.background = background
        self.confidence = confidence
        self.fg_weight = fg_weight
        self.ignore_index = ignore_index
        self.loss_weight = loss_weight

    @property
    def needs_full_size(self) -> bool:
        """Whether the probabilities must come at the size of the image, not of the maps."""
        return self.version == 'v3'

    def forward(self, cam: Tensor, probabilities: Tensor) -> Tensor:
        """Loss of logits ``cam`` (B, K, h, w) against ``probabilities`` (B, K + 1, H, W), background in channel 0."""
        return self.loss_weight * self._loss(cam.float(), probabilities.float())

    def _loss(self, cam: Tensor, probabilities: Tensor) -> Tensor:
        if self.version == 'v1':
            return raw_cam_loss(cam, probabilities, self.rectify)
        if self.version == 'v2':
            return normalized_cam_loss(cam, probabilities, self.rectify, self.detach_range)
        mask = confident_argmax(probabilities, self.confidence, self.ignore_index)
        return cam_mask_loss(
            cam, mask, self.rectify, self.detach_range, self.background, self.fg_weight, self.ignore_index
        )
