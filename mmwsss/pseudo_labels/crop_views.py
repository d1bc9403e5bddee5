"""Crops of several scales as the views of a prediction (PMM, sec. 3.3), for the outputs of any method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .multi_crop import INNER_CROPS, multi_crop_boxes
from .views import Fusion, FusionRule, iter_views, named

MULTI_SCALE, MULTI_CROP = 'multi_scale', 'multi_crop'
_OF_SCALES = ('type', 'scales', 'flip')


@dataclass(frozen=True)
class CropViews:
    """Views that are crops of the image at several scales, each brought to one size.

    Args:
        scales: factors of the image size.
        crop_size: side of the crops that the network sees, in pixels.
        stride: from crop to crop, in pixels of the scaled image.
        inner_crop: see :func:`~mmwsss.pseudo_labels.multi_crop.crop_boxes`.
        flip: whether the horizontal flip of each crop is run as well.
        max_batch: most images in one call of the network.

    Raises:
        ValueError: a scale or number that is not positive, or an unknown ``inner_crop``.
    """

    scales: Sequence[float]
    crop_size: int = 448
    stride: int = 300
    inner_crop: str = 'stride'
    flip: bool = True
    max_batch: int = 16

    def __post_init__(self) -> None:
        _check_scales(self.scales)
        if self.inner_crop not in INNER_CROPS:
            raise ValueError(f'model.test_cfg.views.inner_crop has to be one of {INNER_CROPS}, got {self.inner_crop!r}')
        for name in ('crop_size', 'stride', 'max_batch'):
            if getattr(self, name) < 1:
                raise ValueError(f'model.test_cfg.views.{name} has to be positive, got {getattr(self, name)}')

    def outputs(
        self, network: Callable[[Tensor], Any], images: Tensor, rules: Mapping[Any, FusionRule] | None = None
    ) -> dict[Any, Tensor]:
        """Outputs of ``network`` over all crops of ``images``.

        A map is the mean over the crops that cover a pixel, at the size of the images. A vector, such as image scores,
        is that of the whole image brought to the size of the crops: a crop may hold none of the objects.

        Args:
            network: takes crops (N, 3, s, s) and returns a tensor, tuple or dict of maps (N, C, h, w) and vectors
                (N, K).
            images: (B, 3, H, W), normalised.
            rules: by output, of which the rule for flips and the rectification apply to every crop; a sum becomes a
                mean.

        Returns:
            Maps (B, C, H, W) and vectors (B, K), float32.
        """
        size = tuple(images.shape[-2:])
        boxes = multi_crop_boxes(size, self.scales, self.crop_size, self.stride, self.inner_crop)[0].tolist()
        whole = [0, size[0], 0, size[1]]
        seen = boxes if whole in boxes else [*boxes, whole]  # the added one is for vectors only
        per_call = max(self.max_batch // (len(images) * (1 + self.flip)), 1)
        totals: dict[Any, Tensor] = {}
        vectors: dict[Any, Tensor] = {}
        coverage = images.new_zeros(size, dtype=torch.float32)
        for top, bottom, left, right in boxes:
            coverage[top:bottom, left:right] += 1
        for start in range(0, len(seen), per_call):
            part = seen[start : start + per_call]
            crops = torch.cat([resize_crop(images, box, self.crop_size) for box in part])
            ((_, outputs),) = iter_views(network, crops, (1,), flip=self.flip, max_batch=self.max_batch)
            for name, output in named(outputs).items():
                rule = _rule_of_crop((rules or {}).get(name, FusionRule()))
                for i, box in enumerate(part):
                    own = output[:, i * len(images) : (i + 1) * len(images)]
                    if own.ndim < 5:
                        if box == whole:
                            vectors[name] = _fused(own, rule)
                    elif start + i < len(boxes):
                        top, bottom, left, right = box
                        if name not in totals:
                            totals[name] = coverage.new_zeros(own.shape[1], own.shape[2], *size)
                        totals[name][..., top:bottom, left:right] += _fused(own, rule, (bottom - top, right - left))
        coverage = coverage.clamp(min=1)
        return {name: total / coverage for name, total in totals.items()} | vectors

    def in_words(self) -> str:
        """The views in words, for the record of a score."""
        scales = ', '.join(f'{scale:g}' for scale in self.scales)
        words = f'crops of {self.crop_size} every {self.stride} pixels at scales {scales}'
        return f'{words} with mirror images' if self.flip else words


def resize_crop(images: Tensor, box: Sequence[int], side: int) -> Tensor:
    """Cut ``box`` (top, bottom, left, right) out of ``images`` (B, 3, H, W) and resize it to a square of ``side``.

    The resizing smooths where it shrinks, as Pillow's does.
    """
    top, bottom, left, right = box
    crop = images[..., top:bottom, left:right]
    if tuple(crop.shape[-2:]) == (side, side):
        return crop
    return F.interpolate(crop, (side, side), mode='bilinear', align_corners=False, antialias=True)


def crop_views(views: Mapping[str, Any] | None) -> CropViews | None:
    """The crops that the option ``test_cfg.views`` asks for; None where it asks for scales or for nothing.

    Settings of scales are not looked at, as kinds of models differ in them.

    Raises:
        ValueError: the option cannot be understood.
    """
    if views is None:
        return None
    kind = views.get('type', MULTI_SCALE)
    if kind not in (MULTI_SCALE, MULTI_CROP):
        raise ValueError(f'model.test_cfg.views.type has to be {MULTI_SCALE!r} or {MULTI_CROP!r}, got {kind!r}')
    if kind == MULTI_SCALE:
        return None
    _check_options(views, ('type', *CropViews.__dataclass_fields__))
    return CropViews(**{name: value for name, value in views.items() if name != 'type'})


def check_weak_views(views: Mapping[str, Any] | None) -> None:
    """Check the option ``test_cfg.views`` of a :class:`~mmwsss.models.segmentors.weak_segmentor.WeakSegmentor`.

    Raises:
        ValueError: the option cannot be understood.
    """
    if views is not None and crop_views(views) is None:
        _check_options(views, _OF_SCALES)


def _check_options(views: Mapping[str, Any], allowed: Sequence[str]) -> None:
    if unknown := set(views) - set(allowed):
        raise ValueError(
            f'model.test_cfg.views needs positive scales and has options {", ".join(allowed)}; {min(unknown)!r} is none'
        )
    _check_scales(views.get('scales'))


def _check_scales(scales: Any) -> None:
    if not isinstance(scales, Sequence) or not scales or min(scales) <= 0:
        raise ValueError(f'model.test_cfg.views needs positive scales, at least one, got {scales}')


def _rule_of_crop(rule: FusionRule) -> FusionRule:
    return replace(rule, flips='mean' if rule.flips == 'sum' else rule.flips, scales='mean')


def _fused(output: Tensor, rule: FusionRule, size: tuple[int, int] | None = None) -> Tensor:
    fusion = Fusion(rule, size)
    fusion.add(output)
    return fusion.result()
