"""Heads that turn patch features into localization maps and image scores."""

from .cam_head import CAMHead
from .patch_class_head import PatchClassHead

__all__ = ['CAMHead', 'PatchClassHead']
