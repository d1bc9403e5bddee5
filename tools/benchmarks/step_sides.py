"""Our side of the benchmark of training steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from operator import attrgetter

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from step_batches import Batch
from step_clock import BACKWARD, DATA, LOSSES, OPTIMIZER, REFINE, STUDENT, TEACHER, Clock
from torch import Tensor, nn

from mmwsss.registry import MODELS

# What of a model belongs to which section; the rest of its ``loss`` counts for the losses.
WATCHED = {
    STUDENT: (
        'backbone.encode', 'backbone.forward', 'neck.forward', 'head.forward', 'head.maps', 'decode_head.forward',
        'online.forward',
    ),
    TEACHER: ('teacher_maps', 'assign'),
    REFINE: ('online_mask', 'pseudo_mask', 'segmentation_to_cam'),
    LOSSES: ('loss_s2c.forward',),
}  # fmt: skip
# Over the root of the classifier's inputs; with random features most patches then are near 0 or 1 in every class.
CONFIDENT = 800


def load_model(config: Config, device: torch.device) -> nn.Module:
    """Model of ``config`` in training mode with random weights, the same at every call, and past its warm-up.

    The weights of a patch classifier are large enough for confident patches, without which a contrast of patches has
    nothing to do.
    """
    init_default_scope('mmwsss')
    torch.manual_seed(0)
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model)
    model.init_weights()
    if hasattr(model, 'iteration'):
        model.iteration = model.warmup_iters + 1
    if getattr(model, 'loss_pce', None) is not None:
        with torch.no_grad():
            model.head.classifier.weight *= CONFIDENT / model.head.in_channels**0.5
    return model.to(device).train()


class OurStep:
    """Training steps of a model of ours with the optimizer of ``config``.

    Args:
        half: bfloat16 by autocast.
    """

    def __init__(self, model: nn.Module, config: Config, half: bool, clock: Clock) -> None:
        self.model, self.clock = model, clock
        self.device = next(model.parameters()).device
        settings = deepcopy(config.optim_wrapper)
        if half:
            settings.type = 'BFloat16OptimWrapper'
        self.wrapper = build_optim_wrapper(model, settings)
        for section, paths in WATCHED.items():
            for path in paths:
                self._watch(path, section)

    def _watch(self, path: str, section: str) -> None:
        owner, _, method = path.rpartition('.')
        try:
            owner = attrgetter(owner)(self.model) if owner else self.model
        except AttributeError:
            return
        if hasattr(owner, method):
            self.clock.watch(owner, method, section)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of a batch of uint8 images, as the loader hands them out, in the precision around this call."""
        with self.clock.section(DATA):
            data = self.model.data_preprocessor(batch.data(), training=True)
        with self.clock.section(LOSSES):
            losses = self.model.loss(**data)
        return {name: value for name, value in losses.items() if name.startswith('loss_')}

    def step(self, batch: Batch) -> None:
        """One iteration."""
        with self.clock.section(OPTIMIZER):
            self.clear()
        with self.wrapper.optim_context(self.model):
            losses = self.forward(batch)
        self.backward(losses)
        with self.clock.section(OPTIMIZER):
            self.wrapper.step()
            if hasattr(self.model, 'update_assignment'):
                self.model.update_assignment()

    def backward(self, losses: dict[str, Tensor]) -> None:
        """Gradients of the sum of the losses."""
        with self.clock.section(BACKWARD):
            self.wrapper.backward(self.model.parse_losses(losses)[0])

    def clear(self) -> None:
        """Forget the gradients."""
        self.wrapper.zero_grad()

    def gradients(self) -> dict[str, Tensor]:
        """Gradients by the names of the weights."""
        named = self.model.named_parameters()
        return {name: weight.grad for name, weight in named if weight.grad is not None}


@contextmanager
def without_dropout(*modules: nn.Module) -> Iterator[None]:
    """Run ``modules`` in training mode with dropout of rate 0 inside the block: what is drawn cannot be compared."""
    kinds = (nn.Dropout, nn.Dropout2d)
    rates = [(part, part.p) for module in modules for part in module.modules() if isinstance(part, kinds)]
    try:
        for part, _ in rates:
            part.p = 0.0
        yield
    finally:
        for part, rate in rates:
            part.p = rate
