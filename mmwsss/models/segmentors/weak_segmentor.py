"""What all segmentors that learn from image labels share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmwsss.ops import RESIZERS, present_channels
from mmwsss.pseudo_labels import maps_to_mask
from mmwsss.pseudo_labels.labeler import LabelState, PseudoLabeler
from mmwsss.pseudo_labels.views import Fusion, FusionRule, iter_views, rescale_bilinear
from mmwsss.registry import MODELS
from mmwsss.utils.images import read_sample_image


class WeakSegmentor(BaseSegmentor):
    """Backbone, neck and head with a prediction step that keeps label-free and label-aware results apart.

    A method implements ``loss``, :meth:`localize` and :meth:`pseudo_maps`.

    Args:
        test_cfg: ``bg_setting`` is the background setting of :func:`~mmwsss.pseudo_labels.maps_to_mask`;
            ``use_image_labels`` masks the pseudo masks (never ``pred_sem_seg``) with the samples' image labels where
            the samples carry them; ``label_threshold`` is the image score above which a class is taken as present where
            a pseudo labeler or refiner has to do without them; ``upsample`` is the rule for enlarging maps, a key of
            :data:`~mmwsss.ops.RESIZERS`;
            ``views``, e.g. ``dict(scales=(0.5, 1, 1.5), flip=True)``, averages the network's maps and scores over
            scales and mirror images.
        pseudo_labeler: config of a :class:`~mmwsss.pseudo_labels.labeler.PseudoLabeler` that makes the pseudo masks
            from the network's maps; without one they are decided from the enlarged :meth:`pseudo_maps`.
    """

    has_background_channel = False
    default_bg_setting = 1.0

    def __init__(
        self,
        backbone: dict,
        head: dict,
        neck: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        pseudo_labeler: dict | None = None,
        data_preprocessor: dict | None = None,
        pretrained: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if pretrained is not None:
            raise ValueError('`pretrained` is not supported; set init_cfg=dict(type="Pretrained", ...) in the backbone')
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck) if neck is not None else None
        self.head = MODELS.build(head)
        self.train_cfg = train_cfg
        self.test_cfg = dict(
            bg_setting=self.default_bg_setting,
            use_image_labels=True,
            label_threshold=0.5,
            upsample='align_corners',
            views=None,
        )
        self.test_cfg.update(test_cfg or {})
        if unknown := {'refiner', 'refiner_upsample'} & self.test_cfg.keys():
            raise ValueError(
                f'test_cfg.{min(unknown)} is not an option; refine by a Refine step of pseudo_labeler, see '
                'configs/_base_/pseudo_labels'
            )
        if self.test_cfg['upsample'] not in RESIZERS:
            raise ValueError(f'test_cfg.upsample has to be one of {tuple(RESIZERS)}, got {self.test_cfg["upsample"]!r}')
        _check_views(self.test_cfg['views'])
        self.pseudo_labeler = None if pseudo_labeler is None else PseudoLabeler(**pseudo_labeler)
        self.num_classes = self.head.num_classes

    @abstractmethod
    def localize(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Raw localization maps (B, C, h, w) and image scores (B, K) in [0, 1] from conditioned features."""

    @abstractmethod
    def pseudo_maps(self, maps: Tensor, labels: Tensor | None, scores: Tensor) -> Tensor:
        """Maps (B, C, h, w) from which a mask is decided.

        Args:
            maps: raw localization maps of :meth:`localize`.
            labels: (B, K) multi-hot image labels; None when the prediction must not use them.
            scores: (B, K) predicted image scores.
        """

    def presumed_labels(self, scores: Tensor) -> Tensor:
        """Image labels (B, K) that a pseudo labeler and refiners go by without true ones, from image scores (B, K)."""
        return (scores > self.test_cfg['label_threshold']).to(scores)

    def network_maps(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Raw localization maps (B, C, h, w) and image scores (B, K) of images (B, 3, H, W)."""
        return self.localize(self.extract_feat(inputs))

    def viewed_maps(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`network_maps`, averaged over ``test_cfg.views`` where set; the largest view gives the size."""
        views = self.test_cfg['views']
        if views is None:
            return self.network_maps(inputs)
        fusions = (Fusion(FusionRule()), Fusion(FusionRule()))
        rescale = partial(rescale_bilinear, divisor=getattr(self.backbone, 'patch_size', 1))
        scales = sorted(views['scales'], reverse=True)
        for _, outputs in iter_views(self.network_maps, inputs, scales, flip=views.get('flip', False), rescale=rescale):
            for index, fusion in enumerate(fusions):
                fusion.add(outputs[index])
        return tuple(fusion.result() for fusion in fusions)

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Conditioned features (B, D, h, w) of images (B, 3, H, W)."""
        return self.condition(self.backbone(inputs)[-1])

    def condition(self, features: Tensor) -> Tensor:
        """Pass backbone features through the neck, where there is one."""
        return features if self.neck is None else self.neck(features)

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict] | None = None) -> Tensor:
        """Label-free maps (B, C, H, W) at the size of ``inputs``."""
        maps, scores = self.network_maps(inputs)
        return self.enlarge(self.pseudo_maps(maps, None, scores), inputs.shape[-2:])

    def _forward(self, inputs: Tensor | dict, data_samples: list | None = None) -> Tensor:
        return self.head(self.extract_feat(first_view(inputs)))

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> list[SegDataSample]:
        """Predict masks and maps at ``ori_shape``.

        Each returned sample carries ``pred_sem_seg`` (decided without image labels), ``localization_maps``,
        ``pseudo_mask`` (with image labels where ``used_image_labels`` in its metainfo is True), ``pseudo_maps`` where
        the mask was decided from them by a background setting, and ``image_scores`` (K,).
        """
        samples = data_samples or [SegDataSample(metainfo=dict(ori_shape=tuple(inputs.shape[-2:]))) for _ in inputs]
        if any(any(sample.get('img_padding_size', ())) for sample in samples):
            raise ValueError(
                'test images of uneven size were padded to a batch, which would squeeze the maps; set batch_size=1 in '
                'the dataloader and no test_cfg in the data preprocessor'
            )
        labels = self._labels_to_use(samples)
        maps, scores = self.viewed_maps(inputs)
        label_free = self.pseudo_maps(maps, None, scores)
        located = maps if labels is None else maps * present_channels(labels, maps.shape[1])[:, :, None, None]
        for i, sample in enumerate(samples):
            size = sample.ori_shape[:2]
            free, loc = (self.enlarge(m[i : i + 1], size)[0] for m in (label_free, located))
            pseudo = self.pseudo_label(
                maps[i : i + 1], scores[i : i + 1], sample, None if labels is None else labels[i : i + 1]
            )
            sample.set_metainfo(
                dict(
                    used_image_labels=labels is not None,
                    bg_setting=self.test_cfg['bg_setting'],
                    pseudo_bg_setting=pseudo.bg_setting,
                )
            )
            sample.pred_sem_seg = PixelData(data=self.decide(free)[None])
            sample.localization_maps = PixelData(data=loc)
            sample.pseudo_mask = PixelData(data=pseudo.mask)
            if pseudo.bg_setting is not None:
                sample.pseudo_maps = PixelData(data=pseudo.maps[0])
            sample.image_scores = scores[i]
        return samples

    def decide(self, maps: Tensor) -> Tensor:
        """Mask (..., H, W) of maps (..., C, H, W) at the configured background setting."""
        return maps_to_mask(maps, self.test_cfg['bg_setting'], self.has_background_channel)

    def enlarge(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        """Resize maps (B, C, h, w) bilinearly to ``size`` by the configured rule."""
        return RESIZERS[self.test_cfg['upsample']](maps.float(), tuple(size))

    def pseudo_label(
        self, maps: Tensor, scores: Tensor, sample: SegDataSample, labels: Tensor | None = None
    ) -> LabelState:
        """Pseudo mask of one image from the network's maps (1, C, h, w) and scores (1, K); no network is run.

        Args:
            sample: says the size of the mask, ``ori_shape``, and where the image is, ``img_path``.
            labels: (1, K) image labels, None when the mask must not use them.

        Returns:
            The state after the last step, its ``mask`` (1, H, W).
        """
        if self.pseudo_labeler is not None:
            known = labels if labels is not None else self.presumed_labels(scores)
            return self.pseudo_labeler(self.label_state(maps, sample, known))
        final = self.enlarge(self.pseudo_maps(maps, labels, scores), sample.ori_shape[:2])
        return replace(self.label_state(final, sample, labels), mask=self.decide(final))

    def label_state(self, maps: Tensor, sample: SegDataSample, labels: Tensor | None = None) -> LabelState:
        """What the pseudo labeler gets for one image; the image itself is read only when a step needs it.

        Raises:
            ValueError: a step needs the image and it cannot be read.
        """
        images = None
        if self.pseudo_labeler is not None and self.pseudo_labeler.needs_images:
            images = read_sample_image(sample, maps.device, 'the pseudo labeler')
        return LabelState(
            maps=maps.float(),
            has_background=self.has_background_channel,
            size=tuple(sample.ori_shape[:2]),
            images=images,
            labels=labels,
            bg_setting=self.test_cfg['bg_setting'],
        )

    def _labels_to_use(self, samples: list[SegDataSample]) -> Tensor | None:
        if not self.test_cfg['use_image_labels'] or not any('image_labels' in sample for sample in samples):
            return None
        return stack_image_labels(samples, self.num_classes - 1)


def _check_views(views: dict | None) -> None:
    if views is None:
        return
    unknown = set(views) - {'scales', 'flip'}
    if unknown or not views.get('scales') or min(views['scales']) <= 0:
        raise ValueError(f'test_cfg.views needs positive scales and may have flip=True, got {views}')


def first_view(inputs: Tensor | dict[str, Tensor]) -> Tensor:
    """The first view of a batch, whether it holds one view or several."""
    return inputs['view_1'] if isinstance(inputs, dict) else inputs


def stack_image_labels(samples: list[SegDataSample], num_foreground: int) -> Tensor:
    """Stack the image labels of ``samples`` into (B, K) float32.

    Raises:
        ValueError: a sample has no image labels, or not ``num_foreground`` of them.
    """
    for sample in samples:
        if 'image_labels' not in sample:
            raise ValueError(
                f'{sample.get("img_path", "a sample")} carries no image_labels; use a weak dataset and PackWeakInputs'
            )
        if sample.image_labels.shape != (num_foreground,):
            raise ValueError(
                f'{sample.get("img_path", "a sample")}: expected {num_foreground} image labels (num_classes - 1), got '
                f'{tuple(sample.image_labels.shape)}; make num_classes of the head equal to the classes of the dataset'
            )
    return torch.stack([sample.image_labels for sample in samples]).float()


def with_background(labels: Tensor, background: Tensor | float = 1.0) -> Tensor:
    """Put a background column before multi-hot labels (B, K); it is 1 unless told otherwise, (B,) or a number."""
    column = background.to(labels) if isinstance(background, Tensor) else labels.new_full((len(labels),), background)
    return torch.cat((column[:, None], labels), dim=1)


@contextmanager
def evaluation_mode(*modules: nn.Module | None) -> Iterator[None]:
    """Run ``modules`` without dropout inside the block and restore each submodule's mode afterwards."""
    states = [(m, m.training) for module in modules if module is not None for m in module.modules()]
    try:
        for module, _ in states:
            module.training = False
        yield
    finally:
        for module, training in states:
            module.training = training
