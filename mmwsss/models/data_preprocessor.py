"""Normalisation and stacking of one or two views."""

from __future__ import annotations

from typing import Any

from mmseg.models.data_preprocessor import SegDataPreProcessor

from mmwsss.registry import MODELS


@MODELS.register_module()
class WeakSegDataPreProcessor(SegDataPreProcessor):
    """mmseg's preprocessor that also takes a dict of views and returns a dict of stacked views.

    Masks, where there are any, belong to the first view. Images of one size are only stacked; uneven ones need ``size``
    or ``size_divisor`` to be padded, as in the parent.
    """

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Move ``data`` to the device, normalise and stack ``inputs``, a list of images or a dict of such lists."""
        if not isinstance(data['inputs'], dict):
            return super().forward(data, training and self._pads)
        views = dict(data['inputs'])
        first = next(iter(views))
        batch = super().forward({**data, 'inputs': views.pop(first)}, training and self._pads)
        batch['inputs'] = {first: batch['inputs']}
        for name, view in views.items():
            batch['inputs'][name] = super().forward(dict(inputs=view))['inputs']
        return batch

    @property
    def _pads(self) -> bool:
        return self.size is not None or self.size_divisor is not None
