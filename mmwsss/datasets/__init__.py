"""Weak datasets and the sources of their image labels."""

from .checks import DatasetError
from .coco import WeakCOCODataset
from .image_labels import COCOInstanceLabels, FileLabels, MaskLabels, VOCXMLLabels
from .own_data import FolderLabels
from .samplers import ResumableInfiniteSampler
from .voc import ShapesDataset, WeakVOCDataset
from .weak_dataset import WeakSegDataset

__all__ = [
    'COCOInstanceLabels',
    'DatasetError',
    'FileLabels',
    'FolderLabels',
    'MaskLabels',
    'ResumableInfiniteSampler',
    'ShapesDataset',
    'VOCXMLLabels',
    'WeakCOCODataset',
    'WeakSegDataset',
    'WeakVOCDataset',
]
