"""Hooks."""

from .assignment_hook import AssignmentHook
from .cyclic_masks import CyclicPseudoMaskHook
from .iteration_hook import IterationHook
from .iteration_seed_hook import IterationSeedHook
from .panel_hook import PanelHook
from .pseudo_label_hook import PseudoLabelExportHook
from .two_phase_hook import TwoPhaseTrainHook

__all__ = [
    'AssignmentHook',
    'CyclicPseudoMaskHook',
    'IterationHook',
    'IterationSeedHook',
    'PanelHook',
    'PseudoLabelExportHook',
    'TwoPhaseTrainHook',
]
