"""Weak dataset for COCO 2014."""

from __future__ import annotations

from typing import ClassVar

from mmwsss.registry import DATASETS

from .voc import voc_colour_map
from .weak_dataset import WeakSegDataset

CLASSES = (
    'background', 'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat',
    'traffic light', 'fire hydrant', 'stop sign', 'parking meter', 'bench', 'bird', 'cat', 'dog', 'horse', 'sheep',
    'cow', 'elephant', 'bear', 'zebra', 'giraffe', 'backpack', 'umbrella', 'handbag', 'tie', 'suitcase', 'frisbee',
    'skis', 'snowboard', 'sports ball', 'kite', 'baseball bat', 'baseball glove', 'skateboard', 'surfboard',
    'tennis racket', 'bottle', 'wine glass', 'cup', 'fork', 'knife', 'spoon', 'bowl', 'banana', 'apple', 'sandwich',
    'orange', 'broccoli', 'carrot', 'hot dog', 'pizza', 'donut', 'cake', 'chair', 'couch', 'potted plant', 'bed',
    'dining table', 'toilet', 'tv', 'laptop', 'mouse', 'remote', 'keyboard', 'cell phone', 'microwave', 'oven',
    'toaster', 'sink', 'refrigerator', 'book', 'clock', 'vase', 'scissors', 'teddy bear', 'hair drier', 'toothbrush',
)  # fmt: skip


@DATASETS.register_module()
class WeakCOCODataset(WeakSegDataset):
    """COCO 2014 with image labels: the 80 object categories, in the order of the instances file, and the background.

    Masks are one-channel PNGs with 0 = background, 1..80 = category by its place in that order (not COCO's category id,
    which has gaps) and 255 = ignore. For labels from the annotations use
    ``label_source=dict(type='COCOInstanceLabels', ann_file='annotations/instances_train2014.json')``. Arguments and
    errors as in :class:`WeakSegDataset`.
    """

    METAINFO: ClassVar[dict] = {'classes': CLASSES, 'palette': voc_colour_map(len(CLASSES))}
    DATA_PREFIX: ClassVar[dict] = {'img_path': 'train2014', 'seg_map_path': 'SegmentationClass/train2014'}
