"""Hooks, loops and optimizer wrappers."""

from . import hooks
from .loops import ResumableIterBasedTrainLoop
from .optim_wrappers import BFloat16OptimWrapper

__all__ = ['BFloat16OptimWrapper', 'ResumableIterBasedTrainLoop', 'hooks']
