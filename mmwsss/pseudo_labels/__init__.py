"""From localization maps to pseudo masks."""

from . import steps
from .background import constant_background, maps_to_mask, power_background
from .dynamic_threshold import FixedThreshold, SearchedThreshold
from .ignore import decision_confidence, ignore_outside_boxes, ignore_uncertain, inside_boxes
from .multi_crop import multi_crop_boxes, multi_crop_maps
from .normalize import divide_no_nan, mask_maps_with_labels, min_max_normalize, peak_normalize, to_distribution
from .proportional import proportional_mask, refine_two_labels, two_label_maps
from .searched import GaussianMixture, fit_gaussian_mixture, search_thresholds
from .segmentation import clear_argmax, label_probabilities, mask_absent_logits
from .two_thresholds import ignore_between, scores_to_banded_mask, softmax_against_threshold, two_threshold_mask
from .variation import coefficient_of_variation, smooth_variation
from .views import FusionRule, iter_views, multi_view

__all__ = [
    'FixedThreshold',
    'FusionRule',
    'GaussianMixture',
    'SearchedThreshold',
    'clear_argmax',
    'coefficient_of_variation',
    'constant_background',
    'decision_confidence',
    'divide_no_nan',
    'fit_gaussian_mixture',
    'ignore_between',
    'ignore_outside_boxes',
    'ignore_uncertain',
    'inside_boxes',
    'iter_views',
    'label_probabilities',
    'maps_to_mask',
    'mask_absent_logits',
    'mask_maps_with_labels',
    'min_max_normalize',
    'multi_crop_boxes',
    'multi_crop_maps',
    'multi_view',
    'peak_normalize',
    'power_background',
    'proportional_mask',
    'refine_two_labels',
    'scores_to_banded_mask',
    'search_thresholds',
    'smooth_variation',
    'softmax_against_threshold',
    'steps',
    'to_distribution',
    'two_label_maps',
    'two_threshold_mask',
]
