"""ViT-PCM: max pooling with vision transformers (Rossetti et al., ECCV 2022, arXiv 2210.17400)."""

from __future__ import annotations

import numpy as np
import torch
from mmseg.structures import SegDataSample
from torch import Tensor

from mmwsss.models.backbones.token_vit import Encoding
from mmwsss.models.losses.view_pair import Seen
from mmwsss.ops import tile_views, untile_views
from mmwsss.pseudo_labels import mask_maps_with_labels
from mmwsss.registry import MODELS

from .single_network import SingleNetworkSegmentor
from .weak_segmentor import evaluation_mode, first_view, stack_image_labels, with_background


@MODELS.register_module()
class ViTPCM(SingleNetworkSegmentor):
    """Patch classifier with a background class, trained by pooled image scores and by equivariance of two views.

    Args:
        loss_mce: classification of the pooled scores, background included.
        loss_reg: penalty on the classifier's weight; None switches it off.
        loss_et: equivariance of the maps of both views; None switches it off and needs one view only.
        teacher: 'eval' takes the maps that supervise view 2 from a forward of view 1 without dropout as the official
            code does; 'train_detach' reuses the training forward and saves that one.
        consistency: :class:`~mmwsss.models.losses.ViewPairConsistency` with a moved copy of view 1 (ACR's regulariser);
            None switches it off.
        mosaic: views 2 per side of a mosaic; the batch has to be a multiple of its square.
    """

    has_background_channel = True

    def __init__(
        self,
        *args,
        loss_mce: dict | None = None,
        loss_reg: dict | None = None,
        loss_et: dict | None = None,
        teacher: str = 'eval',
        consistency: dict | None = None,
        mosaic: int = 2,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        if teacher not in ('eval', 'train_detach'):
            raise ValueError(f"teacher has to be 'eval' or 'train_detach', got {teacher!r}")
        self.loss_mce = MODELS.build(loss_mce) if loss_mce is not None else None
        self.loss_reg = MODELS.build(loss_reg) if loss_reg is not None else None
        self.loss_et = MODELS.build(loss_et) if loss_et is not None else None
        self.consistency = MODELS.build(consistency) if consistency is not None else None
        self.teacher = teacher
        self.mosaic = mosaic

    def loss(self, inputs: Tensor | dict[str, Tensor], data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Losses of a batch of views ``view_1`` (B, 3, S, S) and, with ``loss_et``, ``view_2`` (B, 3, s, s).

        Raises:
            ValueError: ``loss_et`` without a second view, a batch that makes no mosaic, or labels that do not fit.
        """
        self._check_views(inputs)
        labels = self.patch_labels(data_samples)
        view_1 = first_view(inputs)
        encoded = self.encode(view_1)
        tokens = encoded.features[-1]
        maps = self.head.maps(self.condition(tokens))
        teacher = self.teacher_maps(view_1, tokens, maps) if self.loss_et is not None else None
        losses = self.patch_losses(inputs, data_samples, labels, maps, teacher)
        return losses | self.consistency_losses(view_1, encoded, maps)

    def encode(self, images: Tensor) -> Encoding:
        """Encoding of ``images`` (B, 3, H, W) with the attention that ``consistency`` compares."""
        return self.backbone.encode(images, self.consistency.attention_layers if self.consistency is not None else ())

    def consistency_losses(self, images: Tensor, encoded: Encoding, maps: Tensor) -> dict[str, Tensor]:
        """Losses of ``consistency`` between ``images``, their encoding and maps, and a moved copy."""
        if self.consistency is None:
            return {}
        moved = self.encode(self.consistency.move(images))
        moved_maps = self.head.maps(self.condition(moved.features[-1])) if self.consistency.compares_maps else None
        return self.consistency(
            Seen(encoded.attention, encoded.grid, maps), Seen(moved.attention, moved.grid, moved_maps)
        )

    def patch_losses(
        self,
        inputs: Tensor | dict[str, Tensor],
        data_samples: list[SegDataSample],
        labels: Tensor,
        maps: Tensor,
        teacher: Tensor | None,
    ) -> dict[str, Tensor]:
        """Losses of the patch classifier from training maps (B, C, h, w), labels (B, C) and :meth:`teacher_maps`."""
        losses = {}
        if self.loss_mce is not None:
            losses['loss_mce'] = self.loss_mce(self.head.image_scores(maps), labels)
        if self.loss_reg is not None:
            losses['loss_reg'] = self.loss_reg(self.head.classifier.weight)
        if self.loss_et is not None:
            student = untile_views(self.maps(tile_views(inputs['view_2'], self.mosaic)), self.mosaic)
            losses['loss_et'] = self.loss_et(
                student, teacher, *view_records(data_samples), self.backbone.patch_size, labels
            )
        return losses

    def _check_views(self, inputs: Tensor | dict[str, Tensor]) -> None:
        if self.loss_et is not None and not (isinstance(inputs, dict) and 'view_2' in inputs):
            raise ValueError(
                'loss_et needs two views of every image; set second_view=True of TwoViews in the training pipeline, or '
                'loss_et=None in the model'
            )

    def maps(self, images: Tensor) -> Tensor:
        """Softmax maps (B, C, h, w) of images (B, 3, H, W), background in channel 0."""
        return self.head.maps(self.extract_feat(images))

    @torch.no_grad()
    def teacher_maps(self, view_1: Tensor, tokens: Tensor, maps: Tensor) -> Tensor:
        """Maps of view 1 that supervise others, without gradient.

        A backbone without dropout gives the same ``tokens`` in both modes, so only neck and head run again.
        """
        if self.teacher == 'train_detach':
            return maps.detach()
        with evaluation_mode(self.backbone, self.neck, self.head):
            if self.backbone.is_deterministic:
                return self.head.maps(self.condition(tokens.detach()))
            return self.maps(view_1)

    def patch_labels(self, data_samples: list[SegDataSample]) -> Tensor:
        """Multi-hot labels (B, C) with the background first: 1, or what the samples' ``background_label`` says.

        Raises:
            ValueError: only some of the samples have a ``background_label``.
        """
        labels = stack_image_labels(data_samples, self.num_classes - 1)
        background = [sample.background_label for sample in data_samples if 'background_label' in sample]
        if not background:
            return with_background(labels)
        if len(background) < len(data_samples):
            raise ValueError(
                f'{len(background)} of {len(data_samples)} samples of the batch have a background_label; use '
                'ImageLabelsFromMask in the pipelines of all training data or in none'
            )
        return with_background(labels, torch.stack(background).to(labels))

    def localize(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Softmax maps (B, C, h, w) and pooled foreground scores (B, K)."""
        maps = self.head.maps(features)
        return maps, self.head.image_scores(maps)[:, 1:]

    def pseudo_maps(self, maps: Tensor, labels: Tensor | None, scores: Tensor) -> Tensor:
        """Maps of present classes at peak 1, renormalised per patch; the plain softmax where labels are not used."""
        return maps if labels is None else mask_maps_with_labels(maps, with_background(labels))


def view_records(data_samples: list[SegDataSample]) -> tuple[Tensor, Tensor]:
    """Stack the geometric records of both views, (B, 9) each, on the CPU; see :mod:`mmwsss.ops.affine`."""
    return tuple(
        torch.from_numpy(np.stack([sample.metainfo[name] for sample in data_samples]))
        for name in ('record_1', 'record_2')
    )
