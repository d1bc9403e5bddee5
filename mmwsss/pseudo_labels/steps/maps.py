"""Steps that turn maps into other maps."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mmwsss.ops import RESIZERS
from mmwsss.registry import PSEUDO_LABEL_STEPS

from ..background import constant_background, power_background
from ..labeler import LabelState, LabelStep
from ..normalize import as_single, keep_channels, min_max_normalize, peak_normalize, to_distribution
from ..variation import smooth_variation
from .checks import check_fraction, check_not_negative, check_positive


@PSEUDO_LABEL_STEPS.register_module()
class MaskAbsent(LabelStep):
    """Set the maps of classes that the image labels lack to 0; without image labels all maps stay as they are."""

    def __call__(self, state: LabelState) -> LabelState:
        return replace(state, maps=keep_channels(as_single(state.maps), state.present))


@PSEUDO_LABEL_STEPS.register_module()
class PeakNormalize(LabelStep):
    """Divide every non-negative map by its maximum, see :func:`~mmwsss.pseudo_labels.peak_normalize`."""

    def __call__(self, state: LabelState) -> LabelState:
        return replace(state, maps=peak_normalize(as_single(state.maps)))


@PSEUDO_LABEL_STEPS.register_module()
@dataclass(frozen=True)
class MinMaxNormalize(LabelStep):
    """Bring every map to [0, 1] by its minimum and maximum; maps of classes that the image labels lack become 0.

    Args:
        eps, cut, shift: see :func:`~mmwsss.pseudo_labels.min_max_normalize`.

    Raises:
        ValueError: ``eps`` is not positive, or ``cut`` or ``shift`` negative.
    """

    eps: float = 1e-5
    cut: float = 0.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self, 'eps')
        check_not_negative(self, 'cut', 'shift')

    def __call__(self, state: LabelState) -> LabelState:
        maps = min_max_normalize(state.maps, self.eps, self.cut, self.shift)
        return replace(state, maps=keep_channels(maps, state.present))


@PSEUDO_LABEL_STEPS.register_module()
class Distribution(LabelStep):
    """Make the channels of a pixel sum to 1; a pixel of zeros stays zero."""

    def __call__(self, state: LabelState) -> LabelState:
        return replace(state, maps=to_distribution(as_single(state.maps)))


@PSEUDO_LABEL_STEPS.register_module()
@dataclass(frozen=True)
class Resize(LabelStep):
    """Resize the maps to the size of the mask.

    Args:
        rule: 'align_corners' or 'half_pixel', both bilinear, or 'skimage', see :func:`~mmwsss.ops.resize_mirror`.

    Raises:
        ValueError: unknown rule.
    """

    rule: str = 'align_corners'

    def __post_init__(self) -> None:
        if self.rule not in RESIZERS:
            raise ValueError(f'rule of Resize is {self.rule!r}; expected one of {", ".join(RESIZERS)}')

    def __call__(self, state: LabelState) -> LabelState:
        return replace(state, maps=RESIZERS[self.rule](as_single(state.maps), tuple(state.size)))


@PSEUDO_LABEL_STEPS.register_module()
@dataclass(frozen=True)
class AddBackground(LabelStep):
    """Put a background channel before the classes; maps that have one stay as they are.

    The background setting of the state becomes 1, the plain argmax, as the channel now stands for it.

    Args:
        threshold: constant score of the background.
        power: the background is (1 - best class)^power. With neither, the background setting of the state is the
            threshold.

    Raises:
        ValueError: both arguments, a threshold outside [0, 1], or a power that is not positive; when called, maps
            without a background and a state without a setting.
    """

    threshold: float | None = None
    power: float | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and self.power is not None:
            raise ValueError('AddBackground takes a threshold or a power, got both; remove one')
        if self.threshold is not None:
            check_fraction(self, 'threshold')
        if self.power is not None:
            check_positive(self, 'power')

    def __call__(self, state: LabelState) -> LabelState:
        if state.has_background:
            return state
        if self.power is not None:
            maps = power_background(state.maps, self.power)
        else:
            threshold = state.bg_setting if self.threshold is None else self.threshold
            if threshold is None:
                raise ValueError('AddBackground has no threshold or power and the state no bg_setting; give one')
            maps = constant_background(as_single(state.maps), threshold)
        return replace(state, maps=maps, has_background=True, bg_setting=1.0)


@PSEUDO_LABEL_STEPS.register_module()
class DropBackground(LabelStep):
    """Remove the background channel; maps without one stay as they are."""

    def __call__(self, state: LabelState) -> LabelState:
        return replace(state, maps=state.maps[:, 1:], has_background=False) if state.has_background else state


@PSEUDO_LABEL_STEPS.register_module()
@dataclass(frozen=True)
class SmoothVariation(LabelStep):
    """Lift uneven maps by their coefficient of variation, see :func:`~mmwsss.pseudo_labels.smooth_variation`.

    Args:
        threshold: values below become 0 and do not count.
        scale: weight of the coefficient of variation, 0 only cuts.

    Raises:
        ValueError: ``threshold`` outside [0, 1] or a negative ``scale``.
    """

    threshold: float = 0.05
    scale: float = 0.3

    def __post_init__(self) -> None:
        check_fraction(self, 'threshold')
        check_not_negative(self, 'scale')

    def __call__(self, state: LabelState) -> LabelState:
        return replace(state, maps=smooth_variation(state.maps, self.threshold, self.scale))
