"""Steps that decide the mask."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mmwsss.refiners import Refiner
from mmwsss.registry import PSEUDO_LABEL_STEPS

from ..background import maps_to_mask
from ..labeler import LabelState, LabelStep
from ..normalize import as_single, keep_channels
from ..proportional import proportional_mask, refine_two_labels, two_label_maps
from ..two_thresholds import two_threshold_mask
from .checks import check_fraction, check_not_negative, check_positive, require_full_size, require_no_background
from .maps import SmoothVariation
from .refine import build_refiner

# Dense CRF of PMM's proportional masks.
PROPORTIONAL_CRF = dict(
    type='DenseCRF',
    iterations=10,
    gaussian_weight=10.0,
    gaussian_xy=3.0,
    bilateral_weight=10.0,
    bilateral_xy=80.0,
    bilateral_rgb=13.0,
)


@PSEUDO_LABEL_STEPS.register_module()
@dataclass(frozen=True)
class Decide(LabelStep):
    """Decide each pixel for its best class or the background, see :func:`~mmwsss.pseudo_labels.maps_to_mask`.

    Args:
        bg_setting: background setting; None takes the one of the state.

    Raises:
        ValueError: a negative setting; when called, maps of another size than the mask, or no setting at all.
    """

    bg_setting: float | None = None
    decides = True

    def __post_init__(self) -> None:
        if self.bg_setting is not None:
            check_not_negative(self, 'bg_setting')

    def __call__(self, state: LabelState) -> LabelState:
        require_full_size(self, state)
        setting = state.bg_setting if self.bg_setting is None else self.bg_setting
        if setting is None:
            raise ValueError('neither Decide nor the state has a bg_setting; give Decide one')
        mask = maps_to_mask(state.maps, setting, state.has_background)
        return replace(state, mask=mask, bg_setting=setting)


@PSEUDO_LABEL_STEPS.register_module()
class TwoThresholdMask(LabelStep):
    """Decide with an ignore band between two thresholds, see :func:`~mmwsss.pseudo_labels.two_threshold_mask` (CoSA).

    Args:
        high, low: thresholds; equal ones leave no ignore band.
        down_scale: divisor of both sides for softmax and refinement; 0 or 1 for none.
        refiner: config of a refiner in ``REFINERS``, or a refiner; None for none.
        ignore_index: value of the band.

    Raises:
        ValueError: thresholds outside [0, 1] or in the wrong order, or a ``down_scale`` that is no whole number of at
            least 0; when called, maps of another size than the mask or with a background channel.
    """

    decides = True

    def __init__(
        self,
        high: float,
        low: float,
        down_scale: int = 2,
        refiner: dict[str, Any] | Refiner | None = None,
        ignore_index: int = 255,
    ) -> None:
        self.high, self.low, self.down_scale, self.ignore_index = high, low, down_scale, ignore_index
        check_fraction(self, 'high', 'low')
        check_not_negative(self, 'down_scale')
        if low > high:
            raise ValueError(f'TwoThresholdMask has low={low} above high={high}; exchange them')
        if down_scale != int(down_scale):
            raise ValueError(f'down_scale of TwoThresholdMask is {down_scale!r}; expected a whole number')
        self.refiner = None if refiner is None else build_refiner(refiner, 'TwoThresholdMask')

    @property
    def needs_images(self) -> bool:
        """Only a refiner reads the images."""
        return self.refiner is not None

    def __call__(self, state: LabelState) -> LabelState:
        require_no_background(self, state)
        require_full_size(self, state)
        mask = two_threshold_mask(
            state.maps,
            self.high,
            self.low,
            state.labels,
            int(self.down_scale),
            state.images,
            self.refiner,
            self.ignore_index,
        )
        return replace(state, mask=mask, bg_setting=None)


@PSEUDO_LABEL_STEPS.register_module()
class ProportionalMask(LabelStep):
    """Every class decides its own foreground by a two-label CRF, and small objects win overlaps (PMM, PPMG).

    The foreground of a class is decided on its smoothed map, its share of a pixel is measured on the map as it comes
    in. So PMM smooths here, not in a step before, which would smooth the shares too.

    Args:
        power: the background of a class is (1 - map)^power.
        crf: settings that differ from :data:`PROPORTIONAL_CRF`, such as ``channel_order='bgr'`` for the released
            code, or the whole config of another refiner with its type.
        smoothing: arguments of :class:`SmoothVariation`, ``dict()`` for those of PMM; None for no smoothing.

    Raises:
        ValueError: ``power`` is not positive; when called, maps of another size than the mask or with a background
            channel.
    """

    needs_images = True
    decides = True

    def __init__(
        self, power: float = 11.0, crf: dict[str, Any] | None = None, smoothing: dict[str, float] | None = None
    ) -> None:
        self.power = power
        check_positive(self, 'power')
        crf = crf or {}
        self.refiner = build_refiner(crf if 'type' in crf else {**PROPORTIONAL_CRF, **crf}, 'ProportionalMask')
        self.smoothing = None if smoothing is None else SmoothVariation(**smoothing)

    def __call__(self, state: LabelState) -> LabelState:
        require_no_background(self, state)
        require_full_size(self, state)
        smooth = state.maps if self.smoothing is None else self.smoothing(state).maps
        pairs = two_label_maps(smooth, self.power)
        foreground = refine_two_labels(state.images, pairs, self.refiner, state.present) > 0.5
        mask = proportional_mask(keep_channels(as_single(state.maps), state.present), foreground)
        return replace(state, mask=mask, bg_setting=None)
