"""Decode heads that turn patch features into segmentation logits."""

from .aspp_sum_head import ASPPSumHead
from .large_fov_head import LargeFOVHead

__all__ = ['ASPPSumHead', 'LargeFOVHead']
