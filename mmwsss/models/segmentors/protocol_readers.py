"""How the protocols of an evaluation read the two kinds of segmentors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmwsss.ops.channels import present_channels
from mmwsss.pseudo_labels import divide_no_nan
from mmwsss.pseudo_labels.views import Fusion, FusionRule

from .weak_segmentor import WeakSegmentor


class Reader(ABC):
    """What differs between the kinds of segmentors that can be wrapped."""

    keeps_order = False  # whether scales are run in their order, as the last one may count alone

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @abstractmethod
    def network(self, labels: Tensor | None) -> Callable[[Tensor], dict[str, Tensor]]:
        """Function of images (N, 3, h, w) to outputs by name; ``labels`` (B, K) say which maps are needed."""

    @abstractmethod
    def prepare(self, output: dict[str, Tensor], sample: SegDataSample, size: Sequence[int]) -> dict[str, Tensor]:
        """Outputs (F, 1, ...) of one sample as they are averaged; ``size`` is that of the network input at scale 1."""

    def fusion(self, name: str, size: Sequence[int]) -> Fusion:
        """Running fusion of output ``name`` over views of an input of ``size``; a mean by default."""
        return Fusion(FusionRule())

    def finish(self, fused: dict[str, Tensor]) -> dict[str, Tensor]:
        """What follows the fusion of all outputs."""
        return fused

    @abstractmethod
    def maps(self, fused: dict[str, Tensor], labels: Tensor | None, sample: SegDataSample) -> Tensor:
        """Maps (1, C, H, W) at ``ori_shape`` that decide the mask, of present classes where labels are given."""

    def presumed_labels(self, fused: dict[str, Tensor]) -> Tensor | None:
        """Labels (1, K) by which a refiner may leave out classes without true ones."""
        return None

    def probabilities(self, maps: Tensor) -> Tensor:
        """Maps with a background channel for a refiner."""
        return maps

    def decide(self, maps: Tensor) -> Tensor:
        """Masks (1, H, W) of :meth:`maps`."""
        return maps.argmax(dim=1)

    def decide_refined(self, maps: Tensor) -> Tensor:
        """Masks (1, H, W) of refined :meth:`probabilities`."""
        return maps.argmax(dim=1)

    def extras(self, fused: dict[str, Tensor], labels: Tensor | None, sample: SegDataSample) -> dict[str, Any]:
        """More fields of the sample, for panels and image-level scores."""
        return {}


class WeakReader(Reader):
    """A :class:`WeakSegmentor`: raw outputs are fused by its rules, its own normalisation and decision follow."""

    def __init__(self, module: WeakSegmentor) -> None:
        super().__init__(module)
        self.source = module.prediction_source
        self.keeps_order = module.fuses_at_input_size

    def network(self, labels: Tensor | None) -> Callable[[Tensor], dict[str, Tensor]]:
        return self.module.network_for(labels)

    def prepare(self, output: dict[str, Tensor], sample: SegDataSample, size: Sequence[int]) -> dict[str, Tensor]:
        return output

    def fusion(self, name: str, size: Sequence[int]) -> Fusion:
        return self.module.view_fusion(name, size)

    def finish(self, fused: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.module.finish_views(fused)

    def maps(self, fused: dict[str, Tensor], labels: Tensor | None, sample: SegDataSample) -> Tensor:
        return self.module.decision_maps(fused, labels, sample.ori_shape[:2], self.source)

    def presumed_labels(self, fused: dict[str, Tensor]) -> Tensor | None:
        return self.module.presumed_labels(fused['scores'])

    def probabilities(self, maps: Tensor) -> Tensor:
        bg_setting, has_background = self.module.decision_rule(self.source)
        if has_background:
            return maps
        maps = torch.cat((torch.full_like(maps[:, :1], bg_setting), maps), dim=1)
        return divide_no_nan(maps, maps.sum(dim=1, keepdim=True))

    def decide(self, maps: Tensor) -> Tensor:
        return self.module.decide(maps, self.source)

    def decide_refined(self, maps: Tensor) -> Tensor:
        _, has_background = self.module.decision_rule(self.source)
        return self.decide(maps) if has_background else maps.argmax(dim=1)

    def extras(self, fused: dict[str, Tensor], labels: Tensor | None, sample: SegDataSample) -> dict[str, Any]:
        located = self.module.located_maps(fused, labels, sample.ori_shape[:2])[0]
        return dict(localization_maps=PixelData(data=located), image_scores=fused['scores'][0])


class LogitReader(Reader):
    """mmseg's ``EncoderDecoder``: logits are enlarged to ``ori_shape``, probabilities averaged."""

    def __init__(self, module: EncoderDecoder) -> None:
        super().__init__(module)
        if module.out_channels == 1:
            raise ValueError('ProtocolSegmentor needs one logit for each class; set out_channels of decode_head to 2')

    def network(self, labels: Tensor | None) -> Callable[[Tensor], dict[str, Tensor]]:
        return self._logits

    def _logits(self, images: Tensor) -> dict[str, Tensor]:
        size = tuple(images.shape[-2:])
        return dict(logits=self.module.inference(images, [dict(ori_shape=size, img_shape=size) for _ in images]))

    def prepare(self, output: dict[str, Tensor], sample: SegDataSample, size: Sequence[int]) -> dict[str, Tensor]:
        logits = output['logits'][:, 0].float()
        resize = partial(F.interpolate, mode='bilinear', align_corners=self.module.align_corners)
        left, right, top, bottom = sample.get('img_padding_size', sample.get('padding_size', (0, 0, 0, 0)))
        if left or right or top or bottom:
            logits = resize(logits, size=tuple(size))[..., top : size[0] - bottom, left : size[1] - right]
        return dict(probabilities=resize(logits, size=tuple(sample.ori_shape[:2])).softmax(dim=1)[:, None])

    def maps(self, fused: dict[str, Tensor], labels: Tensor | None, sample: SegDataSample) -> Tensor:
        maps = fused['probabilities']
        return maps if labels is None else maps * present_channels(labels, maps.shape[1])[:, :, None, None]


def build_reader(module: nn.Module) -> Reader:
    """Reader of a segmentor.

    Raises:
        TypeError: it is neither a WeakSegmentor nor an EncoderDecoder.
        ValueError: it has one logit for two classes.
    """
    if isinstance(module, WeakSegmentor):
        return WeakReader(module)
    if isinstance(module, EncoderDecoder):
        return LogitReader(module)
    raise TypeError(f'ProtocolSegmentor wraps a WeakSegmentor or an EncoderDecoder, got {type(module).__name__}')
