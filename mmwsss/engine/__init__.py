"""Hooks, loops, optimizer wrappers and schedules."""

from . import hooks
from .loops import ResumableIterBasedTrainLoop, TwoStreamValLoop
from .optim_constructors import FrozenPartsOptimWrapperConstructor, ShardedOptimWrapperConstructor
from .optim_wrappers import BFloat16OptimWrapper
from .overlapped_loops import OverlappedTestLoop, OverlappedValLoop
from .schedulers import WarmupPolyLR, warmup_poly
from .sharded_optimizer import ShardedOptimizer

__all__ = [
    'BFloat16OptimWrapper',
    'FrozenPartsOptimWrapperConstructor',
    'OverlappedTestLoop',
    'OverlappedValLoop',
    'ResumableIterBasedTrainLoop',
    'ShardedOptimWrapperConstructor',
    'ShardedOptimizer',
    'TwoStreamValLoop',
    'WarmupPolyLR',
    'hooks',
    'warmup_poly',
]
