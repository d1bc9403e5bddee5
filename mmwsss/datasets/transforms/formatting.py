"""Packing of samples with image labels."""

from __future__ import annotations

import numpy as np
import torch
from mmcv.transforms import to_tensor
from mmseg.datasets.transforms import PackSegInputs

from mmwsss.registry import TRANSFORMS

META_KEYS = (
    'img_path', 'seg_map_path', 'img_id', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor', 'flip',
    'flip_direction', 'reduce_zero_label', 'record_1', 'record_2', 'img_box',
)  # fmt: skip


@TRANSFORMS.register_module()
class PackWeakInputs(PackSegInputs):
    """mmseg's packing plus the image labels and the second view.

    ``inputs`` is the image, or ``dict(view_1=..., view_2=...)`` where a second view was made. The data sample gains
    ``image_labels`` (K,) float32, and ``background_label`` where the pipeline derived one. With image labels the
    metainfo gains ``num_present``, the count of foreground classes in the image as an int: the host can plan shapes
    without asking the device.
    """

    def __init__(self, meta_keys: tuple[str, ...] = META_KEYS) -> None:
        super().__init__(meta_keys=meta_keys)

    def transform(self, results: dict) -> dict:
        """Pack ``results`` into ``inputs`` and ``data_samples``."""
        flipped = bool(results.get('flip'))
        if results.get('flip_at_box', flipped) != flipped:
            raise ValueError(
                'the image was flipped after RandomPadCrop, whose img_box is wrong now; put the flip before'
            )
        packed = super().transform(results)
        sample = packed['data_samples']
        if 'image_labels' in results:
            sample.image_labels = torch.as_tensor(results['image_labels'], dtype=torch.float32)
            sample.set_metainfo(dict(num_present=int((sample.image_labels > 0.5).sum())))
        if 'background_label' in results:
            sample.background_label = torch.as_tensor(results['background_label'], dtype=torch.float32)
        if 'img_2' in results:
            view_2 = to_tensor(np.ascontiguousarray(results['img_2'].transpose(2, 0, 1)))
            packed['inputs'] = dict(view_1=packed['inputs'], view_2=view_2)
        return packed
