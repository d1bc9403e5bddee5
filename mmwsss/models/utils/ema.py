"""Exponential moving average of the weights of a network."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def ema_update_(target: nn.Module, source: nn.Module, momentum: float) -> None:
    """Set the parameters of ``target`` to ``momentum * target + (1 - momentum) * source`` and copy the buffers (CoSA).

    The two networks may have been initialised independently. The result is that of the formula to one unit in the last
    place, without memory for a third network.

    Raises:
        ValueError: the networks differ in the name or shape of a parameter or buffer.
    """
    parameters = _pairs('parameter', dict(target.named_parameters()), dict(source.named_parameters()))
    buffers = _pairs('buffer', dict(target.named_buffers()), dict(source.named_buffers()))
    if parameters[0]:
        # not lerp, which computes the difference of the two first and so loses digits of the smaller one
        torch._foreach_mul_(parameters[0], momentum)
        torch._foreach_add_(parameters[0], parameters[1], alpha=1 - momentum)
    if buffers[0]:
        torch._foreach_copy_(*buffers)


def _pairs(
    kind: str, target: dict[str, torch.Tensor], source: dict[str, torch.Tensor]
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    shapes, others = ({name: tuple(value.shape) for name, value in each.items()} for each in (target, source))
    if shapes != others:
        name = next(name for name in {**shapes, **others} if shapes.get(name) != others.get(name))
        raise ValueError(
            f'cannot average networks that differ: {kind} {name} has shape {shapes.get(name, "none")} in the target '
            f'and {others.get(name, "none")} in the source; build both from one config'
        )
    return list(target.values()), [source[name] for name in target]
