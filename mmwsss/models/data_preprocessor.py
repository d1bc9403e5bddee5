"""Normalisation and stacking of one or two views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.models.data_preprocessor import SegDataPreProcessor
from torch import Tensor

from mmwsss.registry import MODELS


@MODELS.register_module()
class WeakSegDataPreProcessor(SegDataPreProcessor):
    """mmseg's preprocessor that also takes a dict of views and returns a dict of stacked views.

    Masks, where there are any, belong to the first view. Images of one size are only stacked, and normalised as one
    batch; uneven ones need ``size`` or ``size_divisor`` to be padded, as in the parent.

    Args:
        non_blocking: do not wait until a batch is on the device. Copies then overlap with the step before where the
            loader pins its memory, and the host runs ahead of the device.
        channels_last: hand out batches in the memory format that convolutions are fastest in; see
            :class:`~mmwsss.engine.ChannelsLastHook` for the weights.
        kwargs: arguments of mmseg's ``SegDataPreProcessor``.
    """

    def __init__(self, *args, non_blocking: bool = True, channels_last: bool = False, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._non_blocking = non_blocking
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Move ``data`` to the device, normalise and stack ``inputs``, a list of images or a dict of such lists."""
        if not isinstance(data['inputs'], dict):
            return self._batch_of(data, training)
        views = dict(data['inputs'])
        first = next(iter(views))
        batch = self._batch_of({**data, 'inputs': views.pop(first)}, training)
        batch['inputs'] = {first: batch['inputs']}
        for name, view in views.items():
            batch['inputs'][name] = self._batch_of(dict(inputs=view))['inputs']
        return batch

    def _batch_of(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Batch of the images of one view."""
        pads = self.size is not None or self.size_divisor is not None if training else bool(self.test_cfg)
        alike = len({(image.shape, image.dtype) for image in data['inputs']}) == 1
        if pads or not alike:
            batch = super().forward(data, training and pads)
        else:
            data = self.cast_data(data)
            batch = dict(inputs=self._normalized(data['inputs']), data_samples=data.get('data_samples'))
        batch['inputs'] = batch['inputs'].contiguous(memory_format=self.memory_format)
        return batch

    def _normalized(self, images: Sequence[Tensor]) -> Tensor:
        """Batch (B, 3, H, W) float32; what the parent makes of one image after the other, to the last bit."""
        batch = torch.stack(tuple(images))
        if self.channel_conversion and batch.shape[1] == 3:
            batch = batch.flip(1)
        batch = batch.float()
        return batch.sub_(self.mean).div_(self.std) if self._enable_normalize else batch
