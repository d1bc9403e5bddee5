"""From localization maps to pseudo masks."""

from .background import maps_to_mask
from .normalize import divide_no_nan, mask_maps_with_labels, peak_normalize

__all__ = ['divide_no_nan', 'maps_to_mask', 'mask_maps_with_labels', 'peak_normalize']
