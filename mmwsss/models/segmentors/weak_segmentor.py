"""What all segmentors that learn from image labels share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import ClassVar

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmwsss.ops import RESIZERS, present_channels
from mmwsss.pseudo_labels import maps_to_mask
from mmwsss.pseudo_labels.crop_views import check_weak_views, crop_views
from mmwsss.pseudo_labels.labeler import LabelState, PseudoLabeler
from mmwsss.pseudo_labels.segmentation import mask_absent_logits
from mmwsss.pseudo_labels.views import Fusion, FusionRule, iter_views, rescale_bilinear
from mmwsss.utils.images import read_sample_image

SEGMENTATION, MAPS = 'segmentation', 'maps'


class WeakSegmentor(BaseSegmentor):
    """A network trained from image labels, with a prediction step that keeps label-free and label-aware results apart.

    A method implements ``loss``, :meth:`network_outputs` and :meth:`pseudo_maps`. Where ``segments`` is True its
    network also has a segmentation head, whose decision is the label-free prediction; otherwise that one comes from the
    maps.

    Args:
        num_classes: classes including the background.
        test_cfg: ``bg_setting`` is the background setting of :func:`~mmwsss.pseudo_labels.maps_to_mask` for maps;
            ``use_image_labels`` masks the pseudo masks (never ``pred_sem_seg``) with the samples' image labels where
            the samples carry them; ``label_threshold`` is the image score above which a class is taken as present where
            a pseudo labeler or refiner has to do without them; ``upsample`` is the rule for enlarging maps, a key of
            :data:`~mmwsss.ops.RESIZERS`;
            ``views``, e.g. ``dict(scales=(0.5, 1, 1.5), flip=True)``, fuses the network's outputs over scales and
            mirror images, ``dict(type='multi_crop', scales=(0.75, 1, 2), crop_size=448, stride=300)`` over crops, see
            :class:`~mmwsss.pseudo_labels.crop_views.CropViews`; ``pseudo_source`` is what pseudo masks are made from,
            'maps' or 'segmentation'.
        pseudo_labeler: config of a :class:`~mmwsss.pseudo_labels.labeler.PseudoLabeler` that makes the pseudo masks
            from the network's maps, or from the probabilities of its segmentation head at full size; without one they
            are decided from :meth:`decision_maps`.
    """

    has_background_channel = False
    segments = False
    default_bg_setting = 1.0
    default_upsample = 'align_corners'
    fusion_rules: ClassVar[dict[str, FusionRule]] = {}  # of outputs that are not averaged over views
    fuses_at_input_size = False
    view_divisor: int | None = None  # sides of views are multiples of it; None for the patch size
    test_options: ClassVar[tuple[str, ...]] = (
        'bg_setting', 'use_image_labels', 'label_threshold', 'upsample', 'views', 'pseudo_source', 'mode',
    )  # fmt: skip

    def __init__(
        self,
        num_classes: int,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        pseudo_labeler: dict | None = None,
        data_preprocessor: dict | None = None,
        pretrained: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        refuse_pretrained(pretrained)
        self.num_classes = num_classes
        self.train_cfg = train_cfg
        self.test_cfg = dict(
            bg_setting=self.default_bg_setting,
            use_image_labels=True,
            label_threshold=0.5,
            upsample=self.default_upsample,
            views=None,
            pseudo_source=self.prediction_source,
        )
        self.test_cfg.update(test_cfg or {})
        self._check_test_cfg()
        self.pseudo_labeler = None if pseudo_labeler is None else PseudoLabeler(**pseudo_labeler)

    def _check_test_cfg(self) -> None:
        if unknown := self.test_cfg.keys() - set(self.test_options):
            name = min(unknown)
            remedy = f'; options are {", ".join(self.test_options)}'
            if name.startswith('refiner'):
                remedy = '; refine by a Refine step of pseudo_labeler, see configs/_base_/pseudo_labels'
            raise ValueError(f'model.test_cfg.{name} is not an option of {type(self).__name__}{remedy}')
        sources = (SEGMENTATION, MAPS) if self.segments else (MAPS,)
        for name, allowed in (('upsample', tuple(RESIZERS)), ('pseudo_source', sources)):
            if self.test_cfg[name] not in allowed:
                raise ValueError(f'model.test_cfg.{name} has to be one of {allowed}, got {self.test_cfg[name]!r}')
        check_weak_views(self.test_cfg['views'])

    @abstractmethod
    def network_outputs(self, inputs: Tensor) -> dict[str, Tensor]:
        """Raw outputs of the network for images (B, 3, H, W), one view.

        Returns:
            ``maps`` (B, C, h, w), ``scores`` (B, K) of the foreground classes and, where ``segments``, ``logits``
            (B, K + 1, h, w).
        """

    @abstractmethod
    def pseudo_maps(self, maps: Tensor, labels: Tensor | None, scores: Tensor) -> Tensor:
        """Maps (B, C, h, w) from which a mask is decided.

        Args:
            maps: localization maps of :meth:`viewed_outputs`.
            labels: (B, K) multi-hot image labels; None when the prediction must not use them.
            scores: (B, K) predicted image scores in [0, 1].
        """

    @property
    def prediction_source(self) -> str:
        """What label-free predictions are decided from: 'segmentation' or 'maps'."""
        return SEGMENTATION if self.segments else MAPS

    @property
    def size_divisor(self) -> int:
        """What the sides of resized views are multiples of, in pixels."""
        return self.view_divisor or getattr(self.backbone, 'patch_size', 1)

    @property
    def pseudo_inputs(self) -> tuple[str, str]:
        """Outputs that :meth:`pseudo_label` reads."""
        return 'scores', 'maps' if self.test_cfg['pseudo_source'] == MAPS else 'logits'

    def presumed_labels(self, scores: Tensor) -> Tensor:
        """Image labels (B, K) that a pseudo labeler and refiners go by without true ones, from image scores (B, K)."""
        return (scores > self.test_cfg['label_threshold']).to(scores)

    def finish_views(self, fused: dict[str, Tensor]) -> dict[str, Tensor]:
        """What follows the fusion of views: normalisation of maps, scores in [0, 1]."""
        return fused

    def finish_crops(self, fused: dict[str, Tensor]) -> dict[str, Tensor]:
        """What follows the fusion of crops."""
        return self.finish_views(fused)

    def view_fusion(self, name: str, size: Sequence[int]) -> Fusion:
        """Running fusion of output ``name`` over views of an image of ``size``."""
        rule = self.fusion_rules.get(name, FusionRule())
        return Fusion(rule, tuple(size) if self.fuses_at_input_size else None)

    def network_for(self, labels: Tensor | None) -> Callable[[Tensor], dict[str, Tensor]]:
        """:meth:`network_outputs` of images with the labels (B, K), or without any.

        A method whose maps cost something for every class makes those of these classes and of the ones it predicts.
        """
        return self.network_outputs

    def viewed_outputs(self, inputs: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Outputs of :meth:`network_outputs` fused over ``test_cfg.views``, one view where not set, and finished.

        Unless the method fuses at the size of ``inputs``, the largest view gives the size of the maps. ``labels``
        (B, K) only say which maps are needed, see :meth:`network_for`.
        """
        if (crops := crop_views(self.test_cfg['views'])) is not None:
            return self.finish_crops(crops.outputs(self.network_for(labels), inputs, self.fusion_rules))
        views = self.test_cfg['views'] or dict(scales=(1,))
        scales = views['scales'] if self.fuses_at_input_size else sorted(views['scales'], reverse=True)
        rescale = partial(rescale_bilinear, divisor=self.size_divisor)
        fusions: dict[str, Fusion] = {}
        for _, outputs in iter_views(
            self.network_for(labels), inputs, scales, flip=views.get('flip', False), rescale=rescale
        ):  # fmt: skip
            for name, output in outputs.items():
                fusions.setdefault(name, self.view_fusion(name, inputs.shape[-2:])).add(output)
        return self.finish_views({name: fusion.result() for name, fusion in fusions.items()})

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict] | None = None) -> Tensor:
        """Label-free maps (B, C, H, W) at the size of ``inputs``."""
        outputs = {name: output[None] for name, output in self.network_outputs(inputs).items()}
        fused = {name: self.view_fusion(name, inputs.shape[-2:]) for name in outputs}
        for name, output in outputs.items():
            fused[name].add(output)
        finished = self.finish_views({name: fusion.result() for name, fusion in fused.items()})
        return self.decision_maps(finished, None, inputs.shape[-2:], self.prediction_source)

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> list[SegDataSample]:
        """Predict masks and maps at ``ori_shape``.

        Each returned sample carries ``pred_sem_seg`` (decided without image labels), ``localization_maps``,
        ``pseudo_mask`` (with image labels where ``used_image_labels`` in its metainfo is True), ``pseudo_maps`` where
        the mask was decided from them by a background setting, and ``image_scores`` (K,).
        """
        return [finish() for finish in self.predictions(inputs, data_samples)]

    @torch.no_grad()
    def predictions(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None
    ) -> list[Callable[[], SegDataSample]]:
        """Run the network and return for each image a function that does the rest of :meth:`predict`.

        The functions may be called in other threads while the network runs on the next images.
        """
        inputs = first_view(inputs)
        samples = data_samples or [SegDataSample(metainfo=dict(ori_shape=tuple(inputs.shape[-2:]))) for _ in inputs]
        if any(any(sample.get('img_padding_size', ())) for sample in samples):
            raise ValueError(
                'test images of uneven size were padded to a batch, which would squeeze the maps; set batch_size=1 in '
                'the dataloader and no test_cfg in the data preprocessor'
            )
        labels = self._labels_to_use(samples)
        outputs = self.viewed_outputs(inputs, labels)
        parts = [{name: output[i : i + 1] for name, output in outputs.items()} for i in range(len(samples))]
        known = [None] * len(samples) if labels is None else labels.split(1)
        return [partial(self._finish, *part) for part in zip(parts, samples, known)]

    def _finish(self, outputs: dict[str, Tensor], sample: SegDataSample, labels: Tensor | None) -> SegDataSample:
        """Decide the masks and maps of one sample from outputs (1, ...) and write them to it."""
        size, source = sample.ori_shape[:2], self.prediction_source
        pseudo = self.pseudo_label(outputs, sample, labels)
        sample.set_metainfo(
            dict(
                used_image_labels=labels is not None,
                bg_setting=self.test_cfg['bg_setting'],
                pseudo_bg_setting=pseudo.bg_setting,
            )
        )
        free = self.decide(self.decision_maps(outputs, None, size, source)[0], source)
        sample.pred_sem_seg = PixelData(data=free[None])
        sample.localization_maps = PixelData(data=self.located_maps(outputs, labels, size)[0])
        sample.pseudo_mask = PixelData(data=pseudo.mask)
        if pseudo.bg_setting is not None:
            sample.pseudo_maps = PixelData(data=pseudo.maps[0])
        sample.image_scores = outputs['scores'][0]
        return sample

    def located_maps(self, outputs: dict[str, Tensor], labels: Tensor | None, size: Sequence[int]) -> Tensor:
        """Localization maps (B, C, H, W) at ``size``, 0 for classes that given ``labels`` (B, K) exclude."""
        maps = outputs['maps']
        if labels is not None:
            maps = maps * present_channels(labels, maps.shape[1])[:, :, None, None]
        return self.enlarge(maps, size)

    def decision_maps(
        self, outputs: dict[str, Tensor], labels: Tensor | None, size: Sequence[int], source: str
    ) -> Tensor:
        """Maps (B, C, H, W) at ``size`` that decide a mask, from ``source``, of the present classes where known.

        Those of the segmentation head are its probabilities, the background in channel 0.
        """
        if source == MAPS:
            return self.enlarge(self.pseudo_maps(outputs['maps'], labels, outputs['scores']), size)
        logits = self.enlarge(outputs['logits'], size)
        return (logits if labels is None else mask_absent_logits(logits, labels)).softmax(dim=1)

    def decision_rule(self, source: str) -> tuple[float, bool]:
        """Background setting and whether channel 0 is the background, for :meth:`decision_maps` of ``source``."""
        return (1.0, True) if source == SEGMENTATION else (self.test_cfg['bg_setting'], self.has_background_channel)

    def decide(self, maps: Tensor, source: str = MAPS) -> Tensor:
        """Mask (..., H, W) of :meth:`decision_maps` (..., C, H, W) of ``source``."""
        return maps_to_mask(maps, *self.decision_rule(source))

    def enlarge(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        """Resize maps (B, C, h, w) bilinearly to ``size`` by the configured rule."""
        return RESIZERS[self.test_cfg['upsample']](maps.float(), tuple(size))

    def pseudo_label(
        self, outputs: dict[str, Tensor], sample: SegDataSample, labels: Tensor | None = None
    ) -> LabelState:
        """Pseudo mask of one image from :meth:`viewed_outputs` (1, ...); no network is run.

        Args:
            sample: says the size of the mask, ``ori_shape``, and where the image is, ``img_path``.
            labels: (1, K) image labels, None when the mask must not use them.

        Returns:
            The state after the last step, its ``mask`` (1, H, W).
        """
        source, size = self.test_cfg['pseudo_source'], sample.ori_shape[:2]
        if self.pseudo_labeler is None:
            final = self.decision_maps(outputs, labels, size, source)
            return replace(self.label_state(final, sample, labels), mask=self.decide(final, source))
        known = labels if labels is not None else self.presumed_labels(outputs['scores'])
        maps = outputs['maps'] if source == MAPS else self.decision_maps(outputs, labels, size, source)
        return self.pseudo_labeler(self.label_state(maps, sample, known))

    def label_state(self, maps: Tensor, sample: SegDataSample, labels: Tensor | None = None) -> LabelState:
        """What the pseudo labeler gets for one image; the image itself is read only when a step needs it.

        Raises:
            ValueError: a step needs the image and it cannot be read.
        """
        images = None
        if self.pseudo_labeler is not None and self.pseudo_labeler.needs_images:
            images = read_sample_image(sample, maps.device, 'the pseudo labeler')
        bg_setting, has_background = self.decision_rule(self.test_cfg['pseudo_source'])
        return LabelState(
            maps=maps.float(),
            has_background=has_background,
            size=tuple(sample.ori_shape[:2]),
            images=images,
            labels=labels,
            bg_setting=bg_setting,
        )

    def _labels_to_use(self, samples: list[SegDataSample]) -> Tensor | None:
        if not self.test_cfg['use_image_labels'] or not any('image_labels' in sample for sample in samples):
            return None
        return stack_image_labels(samples, self.num_classes - 1)


def refuse_pretrained(pretrained: str | None) -> None:
    """Raise ValueError where mmseg's deprecated option ``pretrained`` is set."""
    if pretrained is not None:
        raise ValueError('`pretrained` is not supported; set init_cfg=dict(type="Pretrained", ...) in the backbone')


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


def stack_boxes(samples: list[SegDataSample], images: Tensor) -> Tensor:
    """Boxes (B, 4) of the real pixels of ``images`` (B, 3, H, W) as top, bottom, left, right; all where not known."""
    height, width = images.shape[-2:]
    boxes = [tuple(sample.get('img_box', (0, height, 0, width))) for sample in samples]
    return torch.tensor(boxes, dtype=torch.long).to(images.device, non_blocking=True)


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
