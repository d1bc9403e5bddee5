"""What the plain training steps share."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from step_batches import Batch
from step_clock import BACKWARD, DATA, LOSSES, OPTIMIZER, Clock
from torch import Tensor, nn

OPTIMIZER_KEYS = ('optimizer', 'paramwise_cfg', 'constructor')


class Reference(ABC):
    """Training steps of a released procedure with the weights and settings of a model of ours.

    A method builds its networks as :attr:`network`, whose trainable weights are optimized, and implements
    :meth:`losses`.

    Args:
        model: ours, which says the settings; nothing of it is run.
        config: whose optimizer is used.
    """

    network: nn.Module

    def __init__(self, model: nn.Module, config: Config, clock: Clock) -> None:
        self.settings, self.clock = model, clock
        self.device = next(model.parameters()).device
        self.network = self.build(model).to(self.device).train()
        settings = {name: config.optim_wrapper[name] for name in OPTIMIZER_KEYS if name in config.optim_wrapper}
        self.optimizer = build_optim_wrapper(self.network, dict(type='OptimWrapper', **settings)).optimizer

    @abstractmethod
    def build(self, model: nn.Module) -> nn.Module:
        """The networks, with the weights of ``model``.

        Raises:
            ValueError: the model is set up otherwise than the released procedure.
        """

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted losses by the names that they have in ours."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of a batch of normalised views, which the workers of the loader make there."""
        with self.clock.section(DATA):
            batch = batch.to(self.device)
        with self.clock.section(LOSSES):
            return self.losses(batch)

    def step(self, batch: Batch) -> None:
        """One iteration."""
        with self.clock.section(OPTIMIZER):
            self.clear()
        losses = self.forward(batch)
        self.backward(losses)
        with self.clock.section(OPTIMIZER):
            self.optimizer.step()
            self.after_step()

    def backward(self, losses: dict[str, Tensor]) -> None:
        """Gradients of the sum of the losses."""
        with self.clock.section(BACKWARD):
            sum(losses.values()).backward()

    def after_step(self) -> None:
        """What follows the optimizer: nothing, unless a method says otherwise."""
        return

    def clear(self) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad()

    def gradients(self) -> dict[str, Tensor]:
        """Gradients by the names of the weights, which are those in ours."""
        named = self.network.named_parameters()
        return {name: weight.grad for name, weight in named if weight.grad is not None}


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``maps`` (B, C, h, w) bilinearly without aligned corners."""
    return F.interpolate(maps, size=size, mode='bilinear', align_corners=False)


def stretch(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``maps`` (B, C, h, w) bilinearly with aligned corners."""
    return F.interpolate(maps, size=size, mode='bilinear', align_corners=True)


def reads(module: nn.Module, **known: object) -> None:
    """Raise ValueError where a setting of ``module`` is not the ``known`` one."""
    for name, value in known.items():
        if (found := getattr(module, name)) != value:
            raise ValueError(f'{name} of {type(module).__name__} is {found!r}; the reference only knows {value!r}')
