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
from .realign import TRANSFORMS, check_transform, move, realign_attention, realign_maps
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
    'TRANSFORMS',
    'OneDNNLinear',
    'PresentClasses',
    'SampledResize',
    'apply_flips',
    'apply_record',
    'check_transform',
    'crop_and_resize',
    'denormalize',
    'denormalize_to_uint8',
    'halfpixel_matrix',
    'move',
    'patch_level_records',
    'present_channels',
    'realign_attention',
    'realign_maps',
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
