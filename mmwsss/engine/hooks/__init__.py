"""Hooks."""

from .iteration_seed_hook import IterationSeedHook
from .panel_hook import PanelHook
from .two_phase_hook import TwoPhaseTrainHook

__all__ = ['IterationSeedHook', 'PanelHook', 'TwoPhaseTrainHook']
