"""Ours and the reference of one case: do they agree, how long do they take, what do they need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median, median_low

import torch
from mmengine.config import Config
from references.base import Reference
from step_batches import Batch
from step_cases import Case
from step_clock import Clock, now_on
from step_flops import counter
from step_memory import peak_of, state_bytes
from step_sides import OurStep, load_model, without_dropout
from torch import Tensor

SPLIT_TURNS = 3
Side = OurStep | Reference


@dataclass
class Turns:
    """What one side needed.

    Args:
        seconds: of every turn.
        splits: seconds of the sections in turns that were measured in detail.
        memory: most bytes of tensors during a step, weights and the state of the optimizer included.
    """

    seconds: list[float]
    splits: list[dict[str, float]]
    memory: int

    @property
    def median_s(self) -> float:
        """Median seconds of a step."""
        return median(self.seconds)

    @property
    def split(self) -> dict[str, float]:
        """Sections of the turn that is the median of those measured in detail."""
        middle = median_low(sum(split.values()) for split in self.splits)
        return next(split for split in self.splits if sum(split.values()) == middle)


class Comparison:
    """Both sides of ``case`` on one device, with the same weights.

    Args:
        half: our steps are in bfloat16; the reference stays in float32. Agreement is tested in float32.

    Raises:
        ValueError: the config is set up otherwise than the reference knows.
    """

    def __init__(self, case: Case, config: Config, half: bool, device: torch.device) -> None:
        model = load_model(config, device)
        self.case, self.device = case, device
        if case.prepare is not None:
            case.prepare(model)
        self.clocks = dict(ours=Clock(), reference=Clock())
        self.reference = case.reference(model, config, self.clocks['reference'])
        self.ours = OurStep(model, config, half, self.clocks['ours'])
        self.sides: dict[str, Side] = dict(ours=self.ours, reference=self.reference)

    def gaps(self, batch: Batch) -> tuple[float, float]:
        """How far losses and gradients are apart at the weights of now; see :func:`loss_gap` and :func:`gradient_gap`.

        Both sides are in float32 and without dropout.
        """
        losses = {}
        exact = torch.backends.cudnn.flags(allow_tf32=False)  # else convolutions of a GPU round to 10 bits
        with exact, without_dropout(self.ours.model, self.reference.network):
            for name, side in self.sides.items():
                losses[name] = side.forward(batch)
                side.backward(losses[name])
        gaps = loss_gap(**losses), gradient_gap(self.ours.gradients(), self.reference.gradients())
        for side in self.sides.values():
            side.clear()
        return gaps

    def run(self, batches: Sequence[Batch]) -> dict[str, Turns]:
        """Steps of both sides turn by turn, every second turn backwards; measuring the memory warms them up."""
        turns = {name: Turns([], [], self._memory(name, batches[0])) for name in self.sides}
        apart = self.device.type != 'cpu'  # sections wait for a GPU, so they are measured in turns of their own
        for turn, batch in enumerate(batches):
            for name in self.sides if turn % 2 else reversed(self.sides):
                seconds, split = self._step(name, batch, detailed=not apart)
                turns[name].seconds.append(seconds)
                turns[name].splits += [split] if split else []
        for batch in batches[:SPLIT_TURNS] if apart else ():
            for name in self.sides:
                turns[name].splits.append(self._step(name, batch, detailed=True)[1])
        return turns

    def flops(self, batch: Batch) -> dict[str, float]:
        """Operations of the sections of a step of ours."""
        with counter() as counted, self.clocks['ours'].measure(counted.get_total_flops) as split:
            self.ours.step(batch)
        return split

    def _step(self, name: str, batch: Batch, detailed: bool) -> tuple[float, dict[str, float]]:
        measured = self.clocks[name].measure(partial(now_on, self.device)) if detailed else nullcontext({})
        start = now_on(self.device)
        with measured as split:
            self.sides[name].step(batch)
        return now_on(self.device) - start, split

    def _memory(self, name: str, batch: Batch) -> int:
        side = self.sides[name]
        network = side.model if side is self.ours else side.network
        optimizer = side.wrapper.optimizer if side is self.ours else side.optimizer
        side.step(batch)  # the optimizer makes its state
        side.clear()
        return state_bytes(network, optimizer) + peak_of(partial(side.step, batch), self.device)


def loss_gap(ours: dict[str, Tensor], reference: dict[str, Tensor]) -> float:
    """Largest relative difference of the losses by their names; one of a single side has to be exactly 0.

    What is not a number counts as infinitely far.
    """
    gaps = [0.0]
    for name in ours.keys() | reference.keys():
        own, theirs = (float(losses[name].detach()) if name in losses else 0.0 for losses in (ours, reference))
        if own != theirs:
            gaps.append(abs(own - theirs) / abs(theirs) if theirs else math.inf)
    return max(math.inf if math.isnan(gap) else gap for gap in gaps)


def gradient_gap(ours: dict[str, Tensor], reference: dict[str, Tensor]) -> float:
    """Norm of the difference of all gradients as a share of the reference's."""
    own = {name: ours.get(name, torch.zeros_like(grad)) for name, grad in reference.items()}
    differences = [torch.linalg.vector_norm(own[name] - grad) for name, grad in reference.items()]
    norms = [torch.linalg.vector_norm(grad) for grad in reference.values()]
    return float(torch.stack(differences).norm() / torch.stack(norms).norm())
