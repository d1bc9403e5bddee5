"""SEAM: self-supervised equivariant attention (Wang et al., CVPR 2020, arXiv 2004.04581), PMM's first stage."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmseg.structures import SegDataSample
from torch import Tensor

from mmwsss.ops import RESIZERS
from mmwsss.ops.channels import PresentClasses
from mmwsss.pseudo_labels import min_max_normalize
from mmwsss.pseudo_labels.views import FusionRule
from mmwsss.registry import MODELS

from .weak_segmentor import WeakSegmentor, first_view, refuse_pretrained, stack_image_labels, with_background

_align_corners = RESIZERS['align_corners']


@MODELS.register_module()
class SEAM(WeakSegmentor):
    """Dilated network whose maps, and their refinement by pixel correlation, follow a change of scale.

    Its localization maps are the refined ones.

    Args:
        backbone: returns at least the three features that ``in_index`` names.
        head: a :class:`~mmwsss.models.heads.SEAMHead`.
        loss_cls: of the averaged maps as logits.
        loss_equivariance: ``EquivariantRegularization`` of both views; None switches it off.
        loss_min_pool: ``MinPoolingLoss`` of the refined maps; None switches it off.
        second_scale: size of the second view as a share of the image; None trains on one view, then
            ``loss_equivariance`` has to be off.
        in_index: features that the head reads, two taps and the last ones.
        warmup_iters: ``loss_er`` starts at this iteration, which ``IterationHook`` has to tell. The release continues a
            trained SEAM and has no warm-up; a network that cannot classify yet satisfies ``loss_er`` by maps that are
            negative everywhere, and stays there.
        kwargs: arguments of :class:`WeakSegmentor`.

    Raises:
        ValueError: ``loss_equivariance`` without a second view, or a ``second_scale`` that is not positive.
    """

    default_bg_setting = 0.15
    fuses_at_input_size = True
    fusion_rules = dict(maps=FusionRule('sum', 'sum'))

    def __init__(
        self,
        backbone: dict,
        head: dict,
        loss_cls: dict,
        loss_equivariance: dict | None = None,
        loss_min_pool: dict | None = None,
        second_scale: float | None = 0.3,
        in_index: Sequence[int] = (1, 2, 3),
        warmup_iters: int = 0,
        pretrained: str | None = None,
        **kwargs,
    ) -> None:
        refuse_pretrained(pretrained)
        if second_scale is None and loss_equivariance is not None:
            raise ValueError(
                'loss_equivariance of SEAM compares two views; set second_scale, or loss_equivariance=None'
            )
        if second_scale is not None and second_scale <= 0:
            raise ValueError(f'second_scale of SEAM has to be positive, got {second_scale}')
        super().__init__(head['num_classes'], **kwargs)
        self.backbone = MODELS.build(backbone)
        self.head = MODELS.build(head)
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_equivariance = None if loss_equivariance is None else MODELS.build(loss_equivariance)
        self.loss_min_pool = None if loss_min_pool is None else MODELS.build(loss_min_pool)
        self.second_scale = second_scale
        self.in_index = tuple(in_index)
        self.warmup_iters = warmup_iters
        self.iteration: int | None = None  # IterationHook says it

    def loss(self, inputs: Tensor | dict[str, Tensor], data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Losses of images (B, 3, H, W) and of the same images at ``second_scale``.

        Raises:
            ValueError: labels that do not fit.
            RuntimeError: there is a warm-up and nobody said which iteration this is.
        """
        images = first_view(inputs)
        labels = stack_image_labels(data_samples, self.num_classes - 1)
        views = [images]
        if self.second_scale is not None:
            views.append(F.interpolate(images, scale_factor=self.second_scale, mode='bilinear', align_corners=True))
        sizes = [tuple(view.shape[-2:]) for view in views]
        cams, refined = zip(*(self.coarse_maps(view) for view in views))
        share = 1 / len(views)
        logits = [enlarged_means(cam, size)[:, 1:] for cam, size in zip(cams, sizes)]
        losses = dict(loss_cls=share * sum(self.loss_cls(own, labels) for own in logits))
        if self.loss_min_pool is None and self.loss_equivariance is None:
            return losses
        # Absent classes are 0 in the other losses, so only the maps of present ones are enlarged.
        present = PresentClasses(labels, max(sample.get('num_present', labels.shape[1]) for sample in data_samples))
        cams, refined = (
            [_align_corners(present.select_with_background(maps), size) for maps, size in zip(views, sizes)]
            for views in (cams, refined)
        )
        if self.loss_min_pool is not None:
            losses['loss_min'] = share * sum(self.loss_min_pool(maps[:, 1:], present.valid) for maps in refined)
        if self.loss_equivariance is not None:
            losses |= self.loss_equivariance(cams, refined, with_background(present.valid), self.num_classes)
            if self._warms_up:
                del losses['loss_er']
        return losses

    @property
    def _warms_up(self) -> bool:
        if self.warmup_iters and self.iteration is None:
            raise RuntimeError('warmup_iters of SEAM needs dict(type="IterationHook") in custom_hooks')
        return bool(self.warmup_iters) and self.iteration < self.warmup_iters

    def coarse_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps and refined maps (B, C, h, w), float32, of images (B, 3, H, W), the background in channel 0."""
        features = self.backbone(images)
        return tuple(maps.float() for maps in self.head(images, [features[i] for i in self.in_index]))

    def maps_of(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The same at the size of the images, (B, C, H, W)."""
        return tuple(_align_corners(maps, tuple(images.shape[-2:])) for maps in self.coarse_maps(images))

    def network_outputs(self, inputs: Tensor) -> dict[str, Tensor]:
        """Refined maps (B, K, H, W) and image scores (B, K) in [0, 1] of images (B, 3, H, W)."""
        cam, refined = self.maps_of(inputs)
        return dict(maps=refined[:, 1:], scores=image_logits(cam).sigmoid())

    def finish_views(self, fused: dict[str, Tensor]) -> dict[str, Tensor]:
        """Maps of at most 1 per image and class; where the minimum is above 0 it falls below 0, as officially."""
        return fused | dict(maps=min_max_normalize(fused['maps'], cut=1e-5, shift=1e-5))

    def finish_crops(self, fused: dict[str, Tensor]) -> dict[str, Tensor]:
        """As after several scales, without the small shift, as officially."""
        return fused | dict(maps=min_max_normalize(fused['maps'], cut=1e-5))

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Last features (B, D, h, w) of images (B, 3, H, W)."""
        return self.backbone(inputs)[self.in_index[-1]]

    def pseudo_maps(self, maps: Tensor, labels: Tensor | None, scores: Tensor) -> Tensor:
        """Maps of the present classes, or of those with a score above ``label_threshold`` without labels."""
        present = self.presumed_labels(scores) if labels is None else labels
        return maps * present[:, :, None, None]

    def _forward(self, inputs: Tensor | dict, data_samples: list | None = None) -> Tensor:
        return self.maps_of(first_view(inputs))[1]


def image_logits(cam: Tensor) -> Tensor:
    """Logits (B, K) of the foreground classes: averages of maps (B, C, h, w)."""
    return cam.mean(dim=(-2, -1))[:, 1:]


def enlarged_means(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Averages (B, C) of ``maps`` (B, C, h, w) enlarged to ``size`` with aligned corners; nothing is enlarged.

    Every pixel of a map has the same share in all averages of one size.
    """
    rows, columns = (_pixel_shares(*sides, maps) for sides in zip(maps.shape[-2:], size))
    return (maps * rows[:, None] * columns).sum(dim=(-2, -1))


def _pixel_shares(n_in: int, n_out: int, like: Tensor) -> Tensor:
    """What part (n_in,) each of ``n_in`` numbers has in the mean of ``n_out`` that are interpolated from them."""
    numbers = torch.eye(n_in, dtype=like.dtype, device=like.device)
    return F.interpolate(numbers[None], n_out, mode='linear', align_corners=True)[0].mean(dim=1)
