"""Parts of a model that wait for the end of a warm-up."""

from __future__ import annotations

from torch import Tensor, nn


def zero_gradients(module: nn.Module) -> Tensor:
    """A loss of 0 (scalar) that leaves gradients of 0 at all trainable weights of ``module``.

    So an optimizer counts its steps and decays its weights, and distributed training finds a gradient of each.
    """
    return 0.0 * sum(weight.flatten()[0] for weight in module.parameters())
