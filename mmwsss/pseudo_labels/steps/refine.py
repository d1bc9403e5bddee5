"""The step that runs a registered refiner."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mmwsss.refiners import Refiner
from mmwsss.registry import PSEUDO_LABEL_STEPS, REFINERS

from ..labeler import LabelState, LabelStep
from ..normalize import as_single


def build_refiner(refiner: dict[str, Any] | Refiner, owner: str) -> Refiner:
    """Build a refiner from its config, or hand one through.

    Raises:
        ValueError: a config without type.
    """
    if isinstance(refiner, Refiner):
        return refiner
    if not isinstance(refiner, dict) or 'type' not in refiner:
        raise ValueError(f"refiner of {owner} is {refiner!r}; expected a config such as dict(type='PAR')")
    return REFINERS.build(refiner)


@PSEUDO_LABEL_STEPS.register_module()
class Refine(LabelStep):
    """Make the maps follow the images.

    The maps come out at the size of the images and in float32.

    Args:
        refiner: config of a refiner in ``REFINERS``, or a refiner.
        prune: leave the classes out that the image labels exclude; False lets them take part, which costs time and,
            in a dense CRF, gives them the least probability instead of none.

    Raises:
        ValueError: no refiner; when called, a refiner that needs a background channel on maps without one.
    """

    needs_images = True

    def __init__(self, refiner: dict[str, Any] | Refiner, prune: bool = True) -> None:
        self.refiner = build_refiner(refiner, 'Refine')
        self.prune = prune

    def __call__(self, state: LabelState) -> LabelState:
        if self.refiner.needs_background and not state.has_background:
            raise ValueError(
                f'{type(self.refiner).__name__} needs maps with a background channel, got maps without; '
                'put AddBackground before Refine'
            )
        maps = self.refiner(state.images, as_single(state.maps), state.labels if self.prune else None)
        return replace(state, maps=maps)
