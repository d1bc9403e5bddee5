"""Construction of optimizers."""

from __future__ import annotations

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
