"""Mixed precision that also runs on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmwsss.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Run forward and loss under bfloat16 autocast on whatever device the model is.

    bfloat16 has the exponents of float32, so there is no loss scaling; mmengine's ``AmpOptimWrapper`` refuses to run on
    a CPU and starts in float16.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast inside the parent's context."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield
