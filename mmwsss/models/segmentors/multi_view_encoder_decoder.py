"""mmseg's segmentor with several views at test time and pseudo masks for training on its own predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmcv import rescale_size
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor

from mmwsss.ops.channels import present_channels
from mmwsss.pseudo_labels.labeler import LabelState, PseudoLabeler
from mmwsss.pseudo_labels.normalize import keep_channels
from mmwsss.pseudo_labels.views import Fusion, FusionRule, half_pixel, iter_views, rescale_bilinear
from mmwsss.registry import MODELS
from mmwsss.utils.images import read_sample_image

from .weak_segmentor import first_view

LABEL_THRESHOLD = 0.5


@MODELS.register_module()
class MultiViewEncoderDecoder(EncoderDecoder):
    """``EncoderDecoder`` that averages probabilities over views and may refine them (PMM, cyclic pseudo masks).

    It trains and names its weights like its parent; a config of that one becomes this one by its ``type`` alone, to
    predict with several views, to have its masks exported by ``tools/generate_pseudo_labels.py`` or renewed by
    :class:`~mmwsss.engine.hooks.CyclicPseudoMaskHook`.

    Args:
        pseudo_labeler: config of a :class:`~mmwsss.pseudo_labels.labeler.PseudoLabeler` that decides masks from the
            averaged probabilities (1, C, H, W), background in channel 0; without one each pixel gets its best class.
        test_cfg: in addition to what mmseg knows (``mode``, ``crop_size``, ``stride``): ``views``, e.g.
            ``dict(scales=(0.5, 1, 1.5), flip=True, base=(2048, 512))``, where ``base`` (long and short side) makes
            scale r fit into r * base with the aspect kept, as mmseg's Resize does; without it r is a factor of the
            input. ``use_image_labels``: exclude absent classes from pseudo masks, never from ``pred_sem_seg``.
        args, kwargs: of ``EncoderDecoder``.

    Raises:
        ValueError: ``views`` cannot be read, or the head has one logit for two classes.
    """

    pseudo_inputs = ('scores', 'probabilities')

    def __init__(self, *args: Any, pseudo_labeler: dict | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.test_cfg = ConfigDict(mode='whole', views=None, use_image_labels=False)
        self.test_cfg.update(kwargs.get('test_cfg') or {})
        check_views(self.test_cfg['views'])
        if self.out_channels == 1:
            raise ValueError('MultiViewEncoderDecoder needs one logit for each class; set out_channels of decode_head')
        self.pseudo_labeler = None if pseudo_labeler is None else PseudoLabeler(**pseudo_labeler)

    def viewed_outputs(self, inputs: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Outputs averaged over ``test_cfg.views``, one view where not set.

        Args:
            inputs: normalised images (B, 3, H, W).
            labels: image labels, not needed here.

        Returns:
            ``probabilities`` (B, C, H, W) and ``scores`` (B, K), the largest probability of each foreground class.
        """
        views = self.test_cfg['views'] or dict(scales=(1,))
        base, size = views.get('base'), tuple(inputs.shape[-2:])
        rescale = partial(rescale_bilinear, divisor=getattr(self.backbone, 'patch_size', 1))
        if base is not None:
            rescale = partial(rescale_into, base=base)
        fusion = Fusion(FusionRule())
        network = partial(self._probabilities, size=size)
        for _, outputs in iter_views(
            network, inputs, views['scales'], flip=views.get('flip', False), rescale=rescale
        ):  # fmt: skip
            fusion.add(outputs)
        probabilities = fusion.result()
        return dict(probabilities=probabilities, scores=probabilities[:, 1:].amax(dim=(-2, -1)))

    def presumed_labels(self, scores: Tensor) -> Tensor:
        """Image labels (B, K) from the ``scores`` of :meth:`viewed_outputs`: classes above 0.5 in some pixel."""
        return (scores > LABEL_THRESHOLD).to(scores)

    def pseudo_label(
        self, outputs: dict[str, Tensor], sample: SegDataSample, labels: Tensor | None = None
    ) -> LabelState:
        """Mask of one image from :meth:`viewed_outputs` (1, ...); no network is run.

        Args:
            sample: says the size of the mask, ``ori_shape``, and where the image is, ``img_path``.
            labels: (1, K) image labels, None when the mask must not use them.

        Returns:
            The state after the last step, its ``mask`` (1, H, W).

        Raises:
            ValueError: the image was padded in a batch, or a step cannot work on it.
        """
        if any(sample.get('img_padding_size', sample.get('padding_size', ()))):
            raise ValueError('test images of uneven size were padded to a batch; set batch_size=1 in the dataloader')
        size, maps = tuple(sample.ori_shape[:2]), outputs['probabilities']
        maps = self._resize(maps, size)
        if labels is not None:
            maps = keep_channels(maps, present_channels(labels, maps.shape[1]))
        images = None
        if self.pseudo_labeler is not None and self.pseudo_labeler.needs_images:
            images = read_sample_image(sample, maps.device, 'the pseudo labeler')
        state = LabelState(maps, True, size, images, labels)
        if self.pseudo_labeler is None:
            return replace(state, mask=maps.argmax(dim=1))
        return self.pseudo_labeler(state)

    @torch.no_grad()
    def predict(self, inputs: Tensor | dict, data_samples: list[SegDataSample] | None = None) -> list[SegDataSample]:
        """Predict ``pred_sem_seg`` at ``ori_shape``, without image labels; as mmseg does it where there are neither
        views nor a pseudo labeler."""
        inputs = first_view(inputs)
        if data_samples is None or (self.test_cfg['views'] is None and self.pseudo_labeler is None):
            return super().predict(inputs, data_samples)
        outputs = self.viewed_outputs(inputs)
        for i, sample in enumerate(data_samples):
            own = {name: output[i : i + 1] for name, output in outputs.items()}
            sample.pred_sem_seg = PixelData(data=self.pseudo_label(own, sample).mask)
        return data_samples

    def _probabilities(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Probabilities (N, C, H, W) at ``size`` of one view of ``images`` (N, 3, h, w)."""
        shape = tuple(images.shape[-2:])
        logits = self.inference(images, [dict(ori_shape=shape, img_shape=shape) for _ in images])
        return self._resize(logits.float(), size).softmax(dim=1)

    def _resize(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        if tuple(maps.shape[-2:]) == size:
            return maps
        return F.interpolate(maps, size=size, mode='bilinear', align_corners=self.align_corners)


def rescale_into(images: Tensor, scale: float, base: Sequence[int]) -> Tensor:
    """Resize ``images`` (B, 3, H, W) to fit into int(scale * base), long and short side, aspect kept, half-pixel."""
    height, width = images.shape[-2:]
    width, height = rescale_size((width, height), tuple(int(side * scale) for side in base))
    return half_pixel(images, (height, width))


def check_views(views: Mapping[str, Any] | None) -> None:
    """Check the ``views`` of a test_cfg.

    Raises:
        ValueError: unknown keys, no positive scale, or a ``base`` that is no pair of positive numbers.
    """
    if views is None:
        return
    scales, base = views.get('scales'), views.get('base', (1, 1))
    wrong = set(views) - {'scales', 'flip', 'base'} or not isinstance(scales, Sequence) or not scales
    if wrong or min(scales) <= 0 or len(base) != 2 or min(base) <= 0:
        raise ValueError(
            f'model.test_cfg.views needs positive scales and may have flip=True and base=(long side, short side), got '
            f'{dict(views)}'
        )
