"""Hooks, loops, optimizer wrappers and schedules."""

from . import hooks
from .loops import ResumableIterBasedTrainLoop, TwoStreamValLoop
from .optim_constructors import FrozenPartsOptimWrapperConstructor
from .optim_wrappers import BFloat16OptimWrapper
from .schedulers import WarmupPolyLR, warmup_poly

__all__ = [
    'BFloat16OptimWrapper',
    'FrozenPartsOptimWrapperConstructor',
    'ResumableIterBasedTrainLoop',
    'TwoStreamValLoop',
    'WarmupPolyLR',
    'hooks',
    'warmup_poly',
]
