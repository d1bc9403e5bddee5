"""APC: adaptive patch contrast (Wu et al., EAAI 2025, arXiv 2407.10649), and its predecessor TKP-PCL (2310.09828)."""

from __future__ import annotations

import torch
from mmseg.structures import SegDataSample
from torch import Tensor

from mmwsss.models.utils.idle import zero_gradients
from mmwsss.ops import RESIZERS, denormalize_to_uint8
from mmwsss.pseudo_labels.labeler import LabelState, PseudoLabeler
from mmwsss.registry import MODELS

from .vitpcm import ViTPCM
from .weak_segmentor import first_view, stack_boxes, stack_image_labels

EMBEDDINGS = ('neck', 'backbone')


@MODELS.register_module()
class APC(ViTPCM):
    """ViT-PCM's patch classifier with a contrast of confident patches and a decoder that learns from its pseudo masks.

    With an adaptive pooling in ``head.pooling`` this is APC in one stage; without a decoder and with ``TopKPooling`` it
    is TKP-PCL, whose pseudo masks train a second network. No official code is known and the method sections were not
    available: what the abstracts do not say is our choice, see ``docs/apc.md``.

    Args:
        loss_pce: ``PatchContrastLoss`` of the patches; None switches it off.
        embedding: what it compares, 'neck' for the conditioned features or 'backbone' for the tokens before them.
        decode_head: config of the decoder on the tokens of the backbone, which then makes the label-free predictions;
            None for none.
        loss_seg: ``BalancedCELoss`` of the decoder against the pseudo masks; needed with it.
        online_labeler: config of the :class:`~mmwsss.pseudo_labels.labeler.PseudoLabeler` that makes these masks from
            the softmax maps of every batch; needed with ``decode_head``.
        warmup_iters: ``loss_pce`` and ``loss_seg`` start at this iteration, which
            :class:`~mmwsss.engine.hooks.IterationHook` counts. Until then the decoder gets zero gradients, so that its
            weights decay and no process of a distributed run waits for it.
        kwargs: arguments of :class:`ViTPCM`; ``loss_reg``, ``loss_et`` and ``consistency`` are switches here as there,
            and the maps that the pseudo masks are made from follow ``teacher``.

    Raises:
        ValueError: an unknown ``embedding``, or a decoder without ``loss_seg`` or ``online_labeler``.
    """

    default_upsample = 'half_pixel'  # as the decoder is trained

    def __init__(
        self,
        *args,
        loss_pce: dict | None = None,
        embedding: str = 'neck',
        decode_head: dict | None = None,
        loss_seg: dict | None = None,
        online_labeler: dict | None = None,
        warmup_iters: int = 0,
        **kwargs,
    ) -> None:
        if embedding not in EMBEDDINGS:
            raise ValueError(f'embedding of APC has to be one of {EMBEDDINGS}, got {embedding!r}')
        if decode_head is not None and (loss_seg is None or online_labeler is None):
            raise ValueError('decode_head of APC needs loss_seg and online_labeler; set them, or decode_head=None')
        self.segments = decode_head is not None
        super().__init__(*args, **kwargs)
        self.loss_pce = None if loss_pce is None else MODELS.build(loss_pce)
        self.embedding = embedding
        self.decode_head = self.loss_seg = self.online_labeler = None
        if self.segments:
            self._check_decoder(decode_head)
            self.decode_head = MODELS.build(decode_head)
            self.loss_seg = MODELS.build(loss_seg)
            self.online_labeler = PseudoLabeler(**online_labeler)
        self.warmup_iters = warmup_iters
        self.iteration: int | None = None  # IterationHook says it

    def _check_decoder(self, decode_head: dict) -> None:
        if decode_head['num_classes'] != self.num_classes:
            raise ValueError(
                f'the heads of APC need one num_classes, got head {self.num_classes}, decode_head '
                f'{decode_head["num_classes"]}'
            )
        if not hasattr(self.data_preprocessor, 'mean'):
            raise ValueError('online_labeler of APC may read colours; set mean and std of data_preprocessor')

    def loss(self, inputs: Tensor | dict[str, Tensor], data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Losses of a batch of images (B, 3, H, W), or of views as in :meth:`ViTPCM.loss` where ``loss_et`` is on.

        Raises:
            ValueError: ``loss_et`` without a second view, or labels that do not fit.
            RuntimeError: there is a warm-up and nobody said which iteration this is.
        """
        self._check_views(inputs)
        labels = self.patch_labels(data_samples)
        images = first_view(inputs)
        encoded = self.encode(images)
        tokens = encoded.features[-1]
        features = self.condition(tokens)
        maps = self.head.maps(features)
        supervises = self.loss_et is not None or (self.segments and not self.is_warming_up)
        teacher = self.teacher_maps(images, tokens, maps) if supervises else None

        losses = self.patch_losses(inputs, data_samples, labels, maps, teacher)
        losses |= self.consistency_losses(images, encoded, maps)
        if self.is_warming_up:
            return losses | (dict(loss_idle=zero_gradients(self.decode_head)) if self.segments else {})
        if self.loss_pce is not None:
            losses['loss_pce'] = self.loss_pce(features if self.embedding == 'neck' else tokens, maps, labels)
        if self.segments:
            mask = self.online_mask(teacher, images, data_samples)
            logits = RESIZERS['half_pixel'](self.decode_head([tokens]).float(), images.shape[-2:])
            losses['loss_seg'] = self.loss_seg(logits.log_softmax(dim=1), mask)
        return losses

    @property
    def is_warming_up(self) -> bool:
        """Whether only the patch classifier learns.

        Raises:
            RuntimeError: nobody said which iteration this is.
        """
        if self.warmup_iters and self.iteration is None:
            raise RuntimeError(
                'warmup_iters of APC needs dict(type="IterationHook") in custom_hooks; a config that replaces the list '
                'has to repeat it'
            )
        return bool(self.warmup_iters) and self.iteration < self.warmup_iters

    @torch.no_grad()
    def online_mask(self, maps: Tensor, images: Tensor, data_samples: list[SegDataSample]) -> Tensor:
        """Pseudo masks (B, H, W) int64 of softmax maps (B, C, h, w) and normalised ``images`` (B, 3, H, W).

        The background is possible in every image, whatever its ``background_label`` says.
        """
        pixels = None
        if self.online_labeler.needs_images:
            pixels = denormalize_to_uint8(images, self.data_preprocessor.mean, self.data_preprocessor.std)
        state = LabelState(
            maps=maps,
            has_background=True,
            size=tuple(images.shape[-2:]),
            images=pixels,
            labels=stack_image_labels(data_samples, self.num_classes - 1),
            boxes=stack_boxes(data_samples, images),
        )
        return self.online_labeler(state).mask

    def network_outputs(self, inputs: Tensor) -> dict[str, Tensor]:
        """Maps, scores and, with a decoder, its logits (B, C, h, w) of images (B, 3, H, W)."""
        tokens = self.backbone(inputs)[-1]
        maps, scores = self.localize(self.condition(tokens))
        outputs = dict(maps=maps, scores=scores)
        return outputs | dict(logits=self.decode_head([tokens])) if self.segments else outputs

    def _forward(self, inputs: Tensor | dict, data_samples: list | None = None) -> Tensor:
        return self.decode_head(self.backbone(first_view(inputs))) if self.segments else super()._forward(inputs)
