"""Hooks."""

from .assignment_hook import AssignmentHook
from .channels_last_hook import ChannelsLastHook
from .checkpoint_hook import CheckpointHook
from .compile_hook import CompileHook
from .corrupt_images_hook import CorruptImagesHook
from .cyclic_masks import CyclicPseudoMaskHook
from .deferred_info_hook import DeferredRuntimeInfoHook
from .early_stopping_hook import EarlyStoppingHook
from .ema_hook import EMAHook
from .iteration_hook import IterationHook
from .iteration_seed_hook import IterationSeedHook
from .non_finite_hook import NonFiniteLoss, NonFiniteLossHook
from .panel_hook import PanelHook
from .preemption_hook import PreemptionHook
from .pseudo_label_hook import PseudoLabelExportHook
from .two_phase_hook import TwoPhaseTrainHook

__all__ = [
    'AssignmentHook',
    'ChannelsLastHook',
    'CheckpointHook',
    'CompileHook',
    'CorruptImagesHook',
    'CyclicPseudoMaskHook',
    'DeferredRuntimeInfoHook',
    'EMAHook',
    'EarlyStoppingHook',
    'IterationHook',
    'IterationSeedHook',
    'NonFiniteLoss',
    'NonFiniteLossHook',
    'PanelHook',
    'PreemptionHook',
    'PseudoLabelExportHook',
    'TwoPhaseTrainHook',
]
