"""Memory format of the weights of convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmwsss.registry import HOOKS

from .iteration_hook import unwrap


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Store the weights of convolutions with the channels last before training, validation or test starts.

    Their outputs then have this format as well, whatever that of the input is. It is what tensor cores work on; values,
    names of parameters and checkpoints stay as they are. Together with ``channels_last=True`` of
    :class:`~mmwsss.models.data_preprocessor.WeakSegDataPreProcessor` the first convolution has nothing to rearrange.

    Args:
        targets: names of submodules of the model; None for the whole.

    Raises:
        ValueError: when a run starts, the model has no such submodule.
    """

    priority = 'VERY_HIGH'  # before hooks that copy the model

    def __init__(self, targets: Sequence[str] | None = None) -> None:
        self.targets = None if targets is None else tuple(targets)

    def before_run(self, runner: Runner) -> None:
        """Rearrange the weights in place."""
        model = unwrap(runner.model)
        for name in ('',) if self.targets is None else self.targets:
            try:
                part = model.get_submodule(name)
            except AttributeError as error:
                raise ValueError(f'ChannelsLastHook: {type(model).__name__} has no submodule {name!r}') from error
            part.to(memory_format=torch.channels_last)
