"""Weak datasets in PASCAL VOC layout."""

from __future__ import annotations

from typing import ClassVar

from mmseg.datasets import PascalVOCDataset

from mmwsss.registry import DATASETS

from .shapes import CLASSES, PALETTE
from .weak_dataset import WeakSegDataset


@DATASETS.register_module()
class WeakVOCDataset(WeakSegDataset):
    """PASCAL VOC 2012 with image labels; classes and colours are those of mmseg's ``PascalVOCDataset``.

    For ``train_aug`` set ``data_prefix=dict(seg_map_path='SegmentationClassAug')``. Arguments and errors as in
    :class:`WeakSegDataset`.
    """

    METAINFO: ClassVar[dict] = PascalVOCDataset.METAINFO
    DATA_PREFIX: ClassVar[dict] = {'img_path': 'JPEGImages', 'seg_map_path': 'SegmentationClass'}


@DATASETS.register_module()
class ShapesDataset(WeakVOCDataset):
    """The generated ``shapes`` data, which lie in VOC layout; arguments and errors as in :class:`WeakSegDataset`."""

    METAINFO: ClassVar[dict] = {'classes': CLASSES, 'palette': PALETTE}


def voc_colour_map(num_colours: int) -> list[list[int]]:
    """PASCAL VOC's colour map: the bits of the index, dealt to red, green and blue from the highest bit down.

    >>> voc_colour_map(3)
    [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    colours = []
    for index in range(num_colours):
        colour = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                colour[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
        colours.append(colour)
    return colours
