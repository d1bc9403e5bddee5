"""Pure tensor functions that carry no parameters and no state, and the linear layer that calls one of them."""

from .affine import (
    apply_flips,
    apply_record,
    crop_and_resize,
    patch_level_records,
    tile_views,
    undo_flips,
    untile_views,
)
from .channels import PresentClasses, present_channels
from .linear import OneDNNLinear, use_onednn_linear
from .normalize import denormalize, denormalize_to_uint8
from .resize import (
    RESIZERS,
    halfpixel_matrix,
    resize_align_corners,
    resize_matrices,
    resize_mirror,
    resize_nearest_align_corners,
    tf_bicubic_matrix,
)
from .sampling import SampledResize

__all__ = [
    'RESIZERS',
    'OneDNNLinear',
    'PresentClasses',
    'SampledResize',
    'apply_flips',
    'apply_record',
    'crop_and_resize',
    'denormalize',
    'denormalize_to_uint8',
    'halfpixel_matrix',
    'patch_level_records',
    'present_channels',
    'resize_align_corners',
    'resize_matrices',
    'resize_mirror',
    'resize_nearest_align_corners',
    'tf_bicubic_matrix',
    'tile_views',
    'undo_flips',
    'untile_views',
    'use_onednn_linear',
]
