"""Heads that turn patch features into localization maps and image scores."""

from .affinity_head import AffinityHead
from .cam_head import CAMHead
from .class_token_head import ClassTokenHead
from .patch_class_head import PatchClassHead
from .seam_head import SEAMHead

__all__ = ['AffinityHead', 'CAMHead', 'ClassTokenHead', 'PatchClassHead', 'SEAMHead']
