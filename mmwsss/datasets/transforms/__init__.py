"""Pipeline steps for weak supervision."""

from .color import ViewColorJitter, adjust_contrast, adjust_hue, adjust_saturation, to_gray
from .formatting import PackWeakInputs
from .labels import ImageLabelsFromMask
from .resize import ResizeAlignCorners
from .views import TwoViews

__all__ = [
    'ImageLabelsFromMask',
    'PackWeakInputs',
    'ResizeAlignCorners',
    'TwoViews',
    'ViewColorJitter',
    'adjust_contrast',
    'adjust_hue',
    'adjust_saturation',
    'to_gray',
]
