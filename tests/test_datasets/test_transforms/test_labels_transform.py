"""Image labels from the mask that the network sees."""

from __future__ import annotations

import numpy as np
import pytest

from mmwsss.datasets.transforms import ImageLabelsFromMask
from mmwsss.datasets.transforms.labels import labels_in_mask


@pytest.mark.parametrize('dtype', [np.uint8, np.int64])
def test_labels(dtype: type) -> None:
    mask = np.array([[0, 2, 2], [255, 3, 0]], dtype=dtype)
    labels = labels_in_mask(mask, 5)
    assert labels.tolist() == [1, 0, 1, 1, 0]
    assert labels.dtype == np.float32


def test_ignore_value_and_empty_masks() -> None:
    assert labels_in_mask(np.full((2, 2), 255, np.uint8), 3).tolist() == [0, 0, 0]
    assert labels_in_mask(np.array([[1, 2]]), 3, ignore_index=2).tolist() == [0, 1, 0]
    assert labels_in_mask(np.zeros((0, 4), np.uint8), 2).tolist() == [0, 0]


@pytest.mark.parametrize('value', [3, 254, -1])
def test_values_outside(value: int) -> None:
    with pytest.raises(ValueError, match=f'mask value {value} is outside of the 3 classes'):
        labels_in_mask(np.array([[0, value]]), 3)


def test_labels_of_the_pipeline_are_replaced() -> None:
    results = dict(gt_seg_map=np.array([[2, 2]]), image_labels=np.ones(3, np.float32))
    results = ImageLabelsFromMask(num_classes=4).transform(results)
    assert results['image_labels'].tolist() == [0, 1, 0]
    assert results['background_label'] == 0


def test_mask_has_to_be_loaded() -> None:
    with pytest.raises(KeyError, match='needs gt_seg_map; put LoadAnnotations before it'):
        ImageLabelsFromMask(num_classes=4).transform({})
