"""Decode heads that turn patch features into segmentation logits."""

from .large_fov_head import LargeFOVHead

__all__ = ['LargeFOVHead']
