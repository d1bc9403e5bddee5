"""The way from an image to its segmentation as one network without data samples."""

from __future__ import annotations

from copy import deepcopy

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmseg.models.segmentors import BaseSegmentor
from torch import Tensor, nn

from mmwsss.apis.errors import UsageError
from mmwsss.models.segmentors.weak_segmentor import MAPS, WeakSegmentor
from mmwsss.pseudo_labels.background import constant_background

from .recurrent import ExportedLSTM


class SegmentationPath(nn.Module):
    """What ``model`` predicts without image labels, from one view of images as they come from a file.

    Of a segmentation head these are its logits. A method without one has scores: those of its maps, in channel 0 the
    background at the background setting of ``test_cfg``, so that in both cases the best class of a pixel is the label
    that ``predict`` gives it. ``test_cfg.views`` and sliding windows are not part of it.

    Args:
        model: segmentor of this package or an ``EncoderDecoder`` of mmseg; it is copied.

    Raises:
        UsageError: it makes no masks, or by gradients.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        check_exportable(model)
        self.model = _exportable(deepcopy(model)).float().eval().requires_grad_(False)
        preprocessor = model.data_preprocessor
        normalizes = getattr(preprocessor, '_enable_normalize', False)
        mean = preprocessor.mean if normalizes else torch.zeros(3, 1, 1)
        std = preprocessor.std if normalizes else torch.ones(3, 1, 1)
        self.register_buffer('mean', mean.detach().clone().float())
        self.register_buffer('std', std.detach().clone().float())
        self.reads_bgr = not getattr(preprocessor, 'channel_conversion', False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits or scores (B, C, H, W) float32 of ``images`` (B, 3, H, W) float32, RGB in 0..255."""
        if self.reads_bgr:
            images = images.flip(1)
        return class_logits(self.model, (images - self.mean) / self.std)


def class_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Logits or scores (B, C, H, W) of normalised ``images`` (B, 3, H, W), see :class:`SegmentationPath`."""
    size = tuple(images.shape[-2:])
    if not isinstance(model, WeakSegmentor):
        return F.interpolate(model._forward(images), size=size, mode='bilinear', align_corners=model.align_corners)
    outputs = model.network_outputs(images)
    if model.segments:
        return model.enlarge(outputs['logits'], size)
    maps = model.decision_maps(model.finish_views(outputs), None, size, MAPS)
    bg_setting, has_background = model.decision_rule(MAPS)
    if has_background:
        return torch.cat((bg_setting * maps[:, :1], maps[:, 1:]), dim=1)
    return constant_background(maps, bg_setting)


def check_exportable(model: nn.Module) -> None:
    """Raise UsageError for a ``model`` whose masks no feed-forward network makes."""
    kind = type(model).__name__
    if not isinstance(model, BaseSegmentor):
        raise UsageError(f'{kind} makes no masks; export a segmentor')
    if getattr(model, 'test_cfg', None) and model.test_cfg.get('localizer') == 'gradient':
        raise UsageError(
            f'the maps of {kind} are gradients of its scores, which a feed-forward file cannot hold; export the second '
            'stage that was trained on its masks, or set model.test_cfg.localizer=cam'
        )
    if not isinstance(model, WeakSegmentor) and getattr(model, 'out_channels', 2) == 1:
        raise UsageError(f'{kind} has one logit for two classes; set out_channels=2 of its decode_head')


def _exportable(model: nn.Module) -> nn.Module:
    """Put parts that every exporter can read in the place of those that none does, inside of ``model``.

    Stochastic depth does nothing in inference, but keeps its rate as a number of numpy.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, DropPath):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.LSTM):
                setattr(module, name, ExportedLSTM(child))
    return model
