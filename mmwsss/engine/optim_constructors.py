"""Construction of optimizers."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmwsss.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class FrozenPartsOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, which with ``paramwise_cfg`` warns of every frozen parameter, with one line instead for
    every part of the model that is frozen as a whole (the assignment network of CoSA).

    The optimizer gets the same groups of parameters.
    """

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs) -> None:
        """Add the parameters of ``module`` and its children to ``params``; nothing where all are frozen."""
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            print_log(f'{prefix or "model"}: frozen, {len(weights)} parameters are not optimized', logger='current')
            return
        super().add_params(params, module, prefix=prefix, **kwargs)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ShardedOptimWrapperConstructor(FrozenPartsOptimWrapperConstructor):
    """Shares the state of the configured optimizer out among the processes of a distributed run (ZeRO, stage 1).

    Each process keeps and updates the moments of about as many weights as the others and sends the weights to them;
    weights and checkpoints are those of the optimizer alone. One process has nothing to share and gets that one. Any
    config takes it as ``optim_wrapper.constructor``.

    Raises:
        ValueError: the optimizer is none of ``torch.optim``.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        settings: dict[str, Any] = dict(self.optimizer_cfg)
        name = settings.pop('type')
        if not (isinstance(name, str) and isinstance(getattr(torch.optim, name, None), type)):
            raise ValueError(
                f'ShardedOptimWrapperConstructor takes optimizers of torch.optim by their name, got {name}; set '
                'optim_wrapper.optimizer.type to one, or leave optim_wrapper.constructor out'
            )
        if get_world_size() > 1:
            self.optimizer_cfg = dict(type='ShardedOptimizer', optimizer_type=name, **settings)
