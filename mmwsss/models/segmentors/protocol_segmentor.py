"""Evaluation of a trained segmentor under several protocols from one pass over its network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmwsss.evaluation.protocols import Protocol, parse_protocols
from mmwsss.pseudo_labels.views import Fusion, iter_views, rescale_bilinear
from mmwsss.refiners.base import Refiner
from mmwsss.registry import MODELS, REFINERS
from mmwsss.utils.images import read_sample_image

from .protocol_readers import build_reader
from .weak_segmentor import first_view, stack_image_labels

Views = tuple[bool, bool]  # several scales, flip
DEFAULT_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)
DEFAULT_REFINERS = dict(crf=dict(type='DenseCRF'), par=dict(type='PAR'))


@MODELS.register_module()
class ProtocolSegmentor(BaseModel):
    """Wraps a trained segmentor and predicts one mask per protocol; every view goes through the network once.

    The views of a scale are the normalised network input resized bilinearly to a multiple of the patch size, at scale 1
    the input itself, so that 'ss' is what the segmentor predicts without the wrapper. Views are averaged: raw maps and
    scores of a :class:`~mmwsss.models.segmentors.WeakSegmentor`, whose method then normalises them, or softmax
    probabilities at ``ori_shape`` of mmseg's ``EncoderDecoder``. '+tags' excludes absent classes before the mask is
    decided. Checkpoints of the wrapped model load as they are.

    Args:
        module: the segmentor or its config.
        protocols: see :class:`~mmwsss.evaluation.protocols.Protocol`.
        scales: of 'ms'; 'ss' is scale 1. The order counts for a segmentor that takes maps from its last scale only.
        refiners: configs of ``REFINERS`` by their name in a protocol, added to ``crf`` and ``par`` with their defaults.
        size_divisor: sides of scaled views are multiples of this; by default the backbone's patch size where it has
            one.
        max_batch: most images in one call of the network.
        data_preprocessor: config of it where that of ``module`` has none, as in a config that sets it beside the model.

    Raises:
        ValueError: a protocol cannot be read or asks for a refiner that is not configured, or no scale is positive.
        TypeError: ``module`` is neither a WeakSegmentor nor an EncoderDecoder.
    """

    def __init__(
        self,
        module: dict | nn.Module,
        protocols: Sequence[str] = ('ss',),
        scales: Sequence[float] = DEFAULT_SCALES,
        refiners: Mapping[str, dict] | None = None,
        size_divisor: int | None = None,
        max_batch: int | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            module = copy(module)
            if data_preprocessor is not None:
                module.setdefault('data_preprocessor', data_preprocessor)
            module = MODELS.build(module)
        reader = build_reader(module)
        super().__init__(data_preprocessor=module.data_preprocessor, init_cfg=init_cfg)
        self.module = module
        self.protocols = parse_protocols(protocols)
        unique = dict.fromkeys(float(scale) for scale in scales)
        self.scales = tuple(unique if reader.keeps_order else sorted(unique))
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f'scales have to be positive numbers, at least one, got {list(scales)}')
        self.refiners = _build_refiners(self.protocols, {**DEFAULT_REFINERS, **(refiners or {})})
        self.reader = reader
        self.size_divisor = size_divisor or getattr(module, 'size_divisor', getattr(module.backbone, 'patch_size', 1))
        self.max_batch = max_batch
        self._register_load_state_dict_pre_hook(_add_prefix)

    @property
    def uses_tags(self) -> bool:
        """Whether a protocol needs image labels."""
        return any(protocol.tags for protocol in self.protocols)

    def forward(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None, mode: str = 'predict') -> Any:
        """Predict; see :meth:`predict`.

        Raises:
            ValueError: another mode than 'predict'.
        """
        if mode != 'predict':
            raise ValueError(f"ProtocolSegmentor only predicts, got mode '{mode}'; train the model it wraps")
        return self.predict(inputs, data_samples)

    @torch.no_grad()
    def predict(self, inputs: Tensor | dict, data_samples: list[SegDataSample] | None = None) -> list[SegDataSample]:
        """Predict masks of all protocols at ``ori_shape``.

        Each returned sample carries ``protocol_masks`` (P, H, W) int64, their names ``protocols`` in the metainfo,
        ``pred_sem_seg`` (the first protocol without tags; where all use tags, the fewest views without tags or
        refiner), ``pseudo_mask`` (the first protocol with tags, if there is one) and, where the network makes them,
        ``localization_maps`` at ``ori_shape`` and ``image_scores`` (K,). These come from the fewest views that a
        protocol uses, named ``image_score_views`` in the metainfo.

        Raises:
            ValueError: a protocol uses tags and a sample has no image labels, or a refiner cannot find the image.
        """
        return [finish() for finish in self.predictions(inputs, data_samples)]

    @torch.no_grad()
    def predictions(
        self, inputs: Tensor | dict, data_samples: list[SegDataSample] | None = None
    ) -> list[Callable[[], SegDataSample]]:
        """Run the network on all views and return for each image a function that does the rest of :meth:`predict`.

        The functions may be called in other threads while the network runs on the next images.
        """
        inputs = first_view(inputs)
        samples = data_samples or [SegDataSample(metainfo=dict(ori_shape=tuple(inputs.shape[-2:]))) for _ in inputs]
        labels = stack_image_labels(samples, self.module.num_classes - 1) if self.uses_tags else None
        known = [None] * len(samples) if labels is None else labels.split(1)
        return [partial(self._finish, *part) for part in zip(samples, self._run_views(inputs, samples, labels), known)]

    def views(self) -> dict[float, bool]:
        """Scales that the protocols need, in the order in which they run, and whether the flip is needed at each."""
        needed: dict[float, bool] = {}
        for protocol in self.protocols:
            for scale in self._scales_of(protocol.multi_scale):
                needed[scale] = needed.get(scale, False) or protocol.flip
        if self.reader.keeps_order:
            return {scale: needed[scale] for scale in (*self.scales, 1.0) if scale in needed}
        # The first scale decides the size of the fused maps, which should be the largest.
        return dict(sorted(needed.items(), reverse=True))

    def _scales_of(self, multi_scale: bool) -> tuple[float, ...]:
        return self.scales if multi_scale else (1.0,)

    def _run_views(
        self, inputs: Tensor, samples: list[SegDataSample], labels: Tensor | None
    ) -> list[dict[Views, dict[str, Tensor]]]:
        """For each sample the outputs (1, ...) fused over each set of views."""
        scales = self.views()
        kinds = dict.fromkeys(_views_of(protocol) for protocol in self.protocols)
        fusions: list[dict[Views, dict[str, Fusion]]] = [{views: {} for views in kinds} for _ in samples]
        outputs = iter_views(
            self.reader.network(labels),
            inputs,
            list(scales),
            flip=list(scales.values()),
            rescale=partial(rescale_bilinear, divisor=self.size_divisor),
            max_batch=self.max_batch,
        )
        for scale, output in outputs:
            for i, sample in enumerate(samples):
                own = {name: value[:, i : i + 1] for name, value in output.items()}
                own = self.reader.prepare(own, sample, inputs.shape[-2:])
                for (multi_scale, flip), fusion in fusions[i].items():
                    if scale in self._scales_of(multi_scale):
                        for name, value in own.items():
                            part = fusion.setdefault(name, self.reader.fusion(name, inputs.shape[-2:]))
                            part.add(value[: 1 + flip])
        return [
            {
                views: self.reader.finish({name: part.result() for name, part in fusion.items()})
                for views, fusion in own.items()
            }
            for own in fusions
        ]

    def _finish(
        self, sample: SegDataSample, fused: dict[Views, dict[str, Tensor]], labels: Tensor | None
    ) -> SegDataSample:
        """Decide the masks of all protocols for one sample and write them to it."""
        first = min(map(_views_of, self.protocols))  # the fewest views, whatever the order of the protocols
        device = next(iter(fused[first].values())).device
        read_image = cache(partial(read_sample_image, sample, device, 'a refiner'))

        @cache
        def maps(views: Views, tags: bool) -> Tensor:
            return self.reader.maps(fused[views], labels if tags else None, sample)

        masks = {}
        for protocol in self.protocols:
            views, tags = _views_of(protocol), protocol.tags
            if protocol.refiner is None:
                masks[protocol] = self.reader.decide(maps(views, tags))[0]
                continue
            known = labels if tags else self.reader.presumed_labels(fused[views])
            probabilities = self.reader.probabilities(maps(views, tags))
            refined = self.refiners[protocol.refiner](read_image(), probabilities, known)
            masks[protocol] = self.reader.decide_refined(refined)[0]
        sample.set_metainfo(dict(protocols=tuple(protocol.name for protocol in self.protocols)))
        sample.protocol_masks = PixelData(data=torch.stack(list(masks.values())))
        free = next((mask for protocol, mask in masks.items() if not protocol.tags), None)
        tagged = next((mask for protocol, mask in masks.items() if protocol.tags), None)
        if free is None:
            free = self.reader.decide(maps(first, False))[0]
        sample.pred_sem_seg = PixelData(data=free[None])
        if tagged is not None:
            sample.pseudo_mask = PixelData(data=tagged[None])
        views_name = replace(self.protocols[0], multi_scale=first[0], flip=first[1], refiner=None, tags=False).name
        sample.set_metainfo(dict(used_image_labels=tagged is not None, image_score_views=views_name))
        sample.set_data(self.reader.extras(fused[first], labels, sample))
        return sample


def _build_refiners(protocols: list[Protocol], configs: Mapping[str, dict]) -> dict[str, Refiner]:
    """The refiners that ``protocols`` ask for."""
    built = {}
    for protocol in protocols:
        if protocol.refiner is None or protocol.refiner in built:
            continue
        if protocol.refiner not in configs:
            raise ValueError(
                f"protocol '{protocol.name}' needs refiners['{protocol.refiner}'] of ProtocolSegmentor, configured are "
                f'{", ".join(configs)}'
            )
        built[protocol.refiner] = REFINERS.build(configs[protocol.refiner])
    return built


def _views_of(protocol: Protocol) -> Views:
    return protocol.multi_scale, protocol.flip


def _add_prefix(state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
    """Let a checkpoint of the wrapped model load into the wrapper."""
    inner = f'{prefix}module.'
    if any(name.startswith(inner) for name in state_dict):
        return
    for name in [name for name in state_dict if name.startswith(prefix)]:
        state_dict[inner + name[len(prefix) :]] = state_dict.pop(name)
