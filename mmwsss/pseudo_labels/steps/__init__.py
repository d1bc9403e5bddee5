"""Registered steps of a pseudo labeler."""

from .decide import Decide, ProportionalMask, TwoThresholdMask
from .ignore import IgnoreOutsideBox, IgnoreUncertain
from .maps import (
    AddBackground,
    Distribution,
    DropBackground,
    MaskAbsent,
    MinMaxNormalize,
    PeakNormalize,
    Resize,
    SmoothVariation,
)
from .refine import Refine
from .searched import SearchedMask

__all__ = [
    'AddBackground',
    'Decide',
    'Distribution',
    'DropBackground',
    'IgnoreOutsideBox',
    'IgnoreUncertain',
    'MaskAbsent',
    'MinMaxNormalize',
    'PeakNormalize',
    'ProportionalMask',
    'Refine',
    'Resize',
    'SearchedMask',
    'SmoothVariation',
    'TwoThresholdMask',
]
