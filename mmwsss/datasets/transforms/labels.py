"""Image labels taken from the mask as the network sees it."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform

from mmwsss.registry import TRANSFORMS


def labels_in_mask(mask: np.ndarray, num_classes: int, ignore_index: int = 255) -> np.ndarray:
    """Multi-hot float32 (num_classes,) of the values in ``mask``, background first, ``ignore_index`` left out.

    Raises:
        ValueError: a value is neither a class nor ``ignore_index``.
    """
    values = np.unique(mask)
    values = values[values != ignore_index]
    outside = values[(values < 0) | (values >= num_classes)]
    if outside.size:
        raise ValueError(
            f'mask value {outside[-1]} is outside of the {num_classes} classes and not ignore={ignore_index}'
        )
    labels = np.zeros(num_classes, dtype=np.float32)
    labels[values] = 1
    return labels


@TRANSFORMS.register_module()
class ImageLabelsFromMask(BaseTransform):
    """Replace the image labels by what is left in ``gt_seg_map`` after resizing, background included.

    This is what the official ViT-PCM trains on: small objects can vanish and the background can be absent. Sets
    ``image_labels`` (K,) and ``background_label``.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        """Read ``gt_seg_map``, which LoadAnnotations has to have loaded before."""
        if 'gt_seg_map' not in results:
            raise KeyError('ImageLabelsFromMask needs gt_seg_map; put LoadAnnotations before it in the pipeline')
        labels = labels_in_mask(results['gt_seg_map'], self.num_classes, self.ignore_index)
        results['image_labels'] = labels[1:]
        results['background_label'] = labels[0]
        return results
