"""The step whose thresholds come from the maps themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mmwsss.registry import PSEUDO_LABEL_STEPS

from ..background import maps_to_mask
from ..labeler import LabelState, LabelStep
from ..normalize import as_single, keep_channels
from ..searched import search_thresholds
from ..two_thresholds import scores_to_banded_mask
from .checks import check_fraction, require_full_size, require_no_background


@PSEUDO_LABEL_STEPS.register_module()
@dataclass(frozen=True)
class SearchedMask(LabelStep):
    """Decide at thresholds searched in the best present score of every pixel of the batch (CoSA's dynamic threshold).

    CoSA searches in a queue over many batches and smooths over time; this step looks at the maps it gets, so that every
    image has thresholds of its own when it is given alone.

    Args:
        components: 2 for one threshold, 3 for a band of ignored pixels between two; see
            :func:`~mmwsss.pseudo_labels.search_thresholds`.
        low, high: thresholds where none can be found; with two components ``high`` alone.
        floor: values at or below do not take part in the search.
        ignore_index: value of the band.

    Raises:
        ValueError: ``components`` is neither 2 nor 3, numbers outside [0, 1], or ``low`` above ``high``; when called,
            maps of another size than the mask or with a background channel.
    """

    components: int = 2
    low: float = 0.25
    high: float = 0.7
    floor: float = 0.05
    ignore_index: int = 255
    decides = True

    def __post_init__(self) -> None:
        if self.components not in (2, 3):
            raise ValueError(f'components of SearchedMask is {self.components!r}; expected 2 or 3')
        check_fraction(self, 'low', 'high', 'floor')
        if self.low > self.high:
            raise ValueError(f'SearchedMask has low={self.low} above high={self.high}; exchange them')

    def __call__(self, state: LabelState) -> LabelState:
        require_no_background(self, state)
        require_full_size(self, state)
        maps = keep_channels(as_single(state.maps), state.present)
        scores = maps.amax(dim=1)
        found = search_thresholds(scores, self.components, self.floor, between_means=True)
        if self.components == 2:
            mask = maps_to_mask(maps, self.high if found is None else found[0].to(maps), has_background=False)
        else:
            low, high = (self.low, self.high) if found is None else (value.to(maps) for value in found)
            best = maps_to_mask(maps, 0.0, has_background=False)
            mask = scores_to_banded_mask(scores, best, high, low, self.ignore_index)
        return replace(state, mask=mask, bg_setting=None)
