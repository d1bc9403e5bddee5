"""Pipeline steps for weak supervision."""

from .affinity_labels import LoadAffinityLabels
from .color import ViewColorJitter, adjust_contrast, adjust_hue, adjust_saturation, to_gray
from .formatting import PackWeakInputs
from .labels import ImageLabelsFromMask
from .loading import LoadAnnotations, LoadImageFromFile
from .multi_crop import MultiCropSample
from .resize import ResizeAlignCorners
from .resize_long import RandomResizeLong
from .scale_crop import PILGaussianBlur, RandomPadCrop, RandomRatioScale
from .strong_ops import STRONG_OPS, OneOfStrongAug
from .views import TwoViews

__all__ = [
    'STRONG_OPS',
    'ImageLabelsFromMask',
    'LoadAffinityLabels',
    'LoadAnnotations',
    'LoadImageFromFile',
    'MultiCropSample',
    'OneOfStrongAug',
    'PILGaussianBlur',
    'PackWeakInputs',
    'RandomPadCrop',
    'RandomRatioScale',
    'RandomResizeLong',
    'ResizeAlignCorners',
    'TwoViews',
    'ViewColorJitter',
    'adjust_contrast',
    'adjust_hue',
    'adjust_saturation',
    'to_gray',
]
