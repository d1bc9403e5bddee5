"""Energy of a dense CRF as a regulariser of segmentation probabilities."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwsss.pseudo_labels import inside_boxes
from mmwsss.refiners import PermutohedralLattice
from mmwsss.refiners.dense_crf import bilateral_features
from mmwsss.registry import MODELS

EXACT_PAIRS = 2**23  # kernel values that the exact filter holds at a time


def dense_energy_loss(
    probabilities: Tensor,
    images: Tensor,
    mask: Tensor,
    regions: Tensor,
    sigma_rgb: float = 15.0,
    sigma_xy: float = 100.0,
    scale: float = 0.5,
    filter: str = 'lattice',
    ignore_index: int = 255,
) -> Tensor:
    """Energy -(1/B) sum of s * g * K s over pixels and classes, low where alike pixels agree (CoSA, L_reg).

    K is an un-normalised bilateral Gaussian filter, s the probabilities inside the regions, and g the gate
    max(region - best probability, 0), which is 1 on ignored pixels. All is computed at ``scale`` times the size. The
    gradient is -(2/B) * g * K s * region with a constant gate, as in the official code; it is not the exact derivative.

    Args:
        probabilities: (B, C, H, W) softmax of up-sampled logits; resized bilinearly with half-pixel centres.
        images: (B, 3, H, W) RGB in 0..255; resized by the nearest rule, like mask and regions.
        mask: (B, H, W) int64.
        regions: (B, H, W) bool or 0/1 float, 1 on real pixels; see :func:`boxes_to_regions`.
        sigma_rgb, sigma_xy: standard deviations in grey levels and in pixels of the full size.
        scale: factor on the size.
        filter: 'lattice' is the permutohedral lattice of the official code. 'exact' sums over all pairs of pixels in
            blocks of bounded memory; it is only about proportional to the lattice (which gives roughly half of it),
            so it needs a weight of its own.
        ignore_index: value in ``mask`` of pixels whose gate is 1.

    Returns:
        scalar of the dtype of ``probabilities``, not positive.

    Raises:
        ValueError: unknown ``filter``.
    """
    _check_filter(filter)
    shrink = partial(F.interpolate, scale_factor=scale, mode='nearest')
    small = F.interpolate(probabilities, scale_factor=scale, mode='bilinear', align_corners=False)
    with torch.no_grad():
        inside = shrink(regions[:, None].to(small))
        ignored = shrink((mask == ignore_index)[:, None].to(small))
        gate = (inside - small.amax(dim=1, keepdim=True)).clamp(min=0)
        gate = torch.where(ignored > 0, 1, gate)
        features = bilateral_features(shrink(images.float()), sigma_xy * scale, sigma_rgb)
        points = (small * inside).flatten(2).transpose(1, 2)
        filtered = FILTERS[filter](features, points).transpose(1, 2).reshape(small.shape).to(small)
        pull = filtered * gate * inside
    return _Energy.apply(small, pull)


def filter_lattice(features: Tensor, values: Tensor) -> Tensor:
    """Filter ``values`` (B, N, C) by a lattice of ``features`` (B, N, D); float32, un-normalised, no gradient."""
    return PermutohedralLattice(features).filter(values)


@torch.no_grad()
def filter_exactly(features: Tensor, values: Tensor, pairs: int = EXACT_PAIRS) -> Tensor:
    """Sum over j of exp(-|f_i - f_j|^2 / 2) v_j for ``features`` (B, N, D) and ``values`` (B, N, C), no gradient.

    At most about ``pairs`` kernel values are in memory at a time; the time grows with N^2.
    """
    batch, points = features.shape[:2]
    rows = max(1, pairs // max(1, batch * points))
    with torch.autocast(values.device.type, enabled=False):  # the product would be rounded to half precision
        features = features.to(values.dtype)
        parts = [
            # Differences, not norms and products, which would cancel for features far from zero.
            torch.cdist(part, features, compute_mode='donot_use_mm_for_euclid_dist').square().mul(-0.5).exp() @ values
            for part in features.split(rows, dim=1)
        ]
    return torch.cat(parts, dim=1)


def boxes_to_regions(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Regions (B, H, W) float32, 1 inside ``boxes`` (B, 4) of top, bottom, left, right, ends exclusive.

    They lie on the device of the boxes. See :func:`~mmwsss.pseudo_labels.inside_boxes` for negative numbers.
    """
    return inside_boxes(boxes, size).float()


class _Energy(torch.autograd.Function):
    """Energy of probabilities (B, C, h, w) whose pull g * K s * region (B, C, h, w) is a constant."""

    @staticmethod
    def forward(ctx: Any, probabilities: Tensor, pull: Tensor) -> Tensor:
        ctx.save_for_backward(pull)
        return -(probabilities * pull).sum() / max(1, len(pull))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (pull,) = ctx.saved_tensors
        # The factor 2 stands for the second s in s * K s.
        return -2 * grad / max(1, len(pull)) * pull, None


FILTERS = {'lattice': filter_lattice, 'exact': filter_exactly}


def _check_filter(name: str) -> None:
    if name not in FILTERS:
        raise ValueError(f'filter {name!r} of the dense energy is none of {", ".join(FILTERS)}')


@MODELS.register_module()
class DenseEnergyLoss(nn.Module):
    """``factor`` times the energy of a dense CRF; see :func:`dense_energy_loss`.

    On a GPU building the lattice waits for the device a few times in each call; the exact filter does not.

    Raises:
        ValueError: unknown ``filter``.
    """

    def __init__(
        self,
        factor: float = 1e-7,
        sigma_rgb: float = 15.0,
        sigma_xy: float = 100.0,
        scale: float = 0.5,
        filter: str = 'lattice',
        ignore_index: int = 255,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        _check_filter(filter)
        self.factor = factor
        self.settings = dict(sigma_rgb=sigma_rgb, sigma_xy=sigma_xy, scale=scale, filter=filter)
        self.settings['ignore_index'] = ignore_index
        self.loss_weight = loss_weight

    def forward(self, probabilities: Tensor, images: Tensor, mask: Tensor, regions: Tensor) -> Tensor:
        energy = dense_energy_loss(probabilities.float(), images, mask, regions, **self.settings)
        return self.loss_weight * self.factor * energy
