"""Steps give finite maps and masks of known classes, whatever maps come in."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmwsss.pseudo_labels import steps
from mmwsss.pseudo_labels.labeler import LabelState
from mmwsss.registry import PSEUDO_LABEL_STEPS

CRF = dict(type='DenseCRF', iterations=1)
CHAINS = {
    'MaskAbsent': [dict(type='MaskAbsent')],
    'PeakNormalize': [dict(type='PeakNormalize')],
    'MinMaxNormalize': [dict(type='MinMaxNormalize')],
    'MinMaxNormalize of crops': [dict(type='MinMaxNormalize', cut=1e-5, shift=1e-5)],
    'Distribution': [dict(type='Distribution')],
    'Resize': [dict(type='Resize', rule='half_pixel')],
    'AddBackground': [dict(type='AddBackground', threshold=0.3)],
    'AddBackground power': [dict(type='PeakNormalize'), dict(type='AddBackground', power=11.0)],
    'DropBackground': [dict(type='AddBackground', threshold=0.3), dict(type='DropBackground')],
    'SmoothVariation': [dict(type='PeakNormalize'), dict(type='SmoothVariation')],
    'SmoothVariation of all': [dict(type='PeakNormalize'), dict(type='SmoothVariation', threshold=0.0, scale=2.0)],
    'Refine': [dict(type='PeakNormalize'), dict(type='AddBackground', threshold=0.3), dict(type='Refine', refiner=CRF)],
    'Decide': [dict(type='Decide', bg_setting=0.3)],
    'TwoThresholdMask': [dict(type='PeakNormalize'), dict(type='TwoThresholdMask', high=0.6, low=0.3)],
    'ProportionalMask': [dict(type='PeakNormalize'), dict(type='ProportionalMask', crf=dict(iterations=1))],
    'SearchedMask': [dict(type='PeakNormalize'), dict(type='SearchedMask')],
    'SearchedMask band': [dict(type='PeakNormalize'), dict(type='SearchedMask', components=3)],
    'IgnoreUncertain': [dict(type='Decide', bg_setting=0.3), dict(type='IgnoreUncertain', confidence=0.5)],
    'IgnoreOutsideBox': [dict(type='Decide', bg_setting=0.3), dict(type='IgnoreOutsideBox')],
}
KINDS = ('random', 'zeros', 'constant', 'one_pixel', 'half_max', 'tiny')


def maps_of(kind: str, shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    plain = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    made = dict(random=plain, zeros=plain * 0, constant=plain * 0 + 0.5, half_max=plain * 65504, tiny=plain * 1e-7)
    made['one_pixel'] = (plain == plain.amax((2, 3), keepdim=True)).float()
    return made[kind].to(dtype)


def test_no_step_is_left_out() -> None:
    assert {name.split()[0] for name in CHAINS} == {name for name in steps.__all__ if name[0].isupper()}


@pytest.mark.parametrize('name', CHAINS)
@settings(
    max_examples=10, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)  # fmt: skip
@given(
    kind=st.sampled_from(KINDS),
    labels=st.sampled_from([None, 0.0, 1.0]),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 1000),
)
def test_any_maps(name: str, kind: str, labels: float | None, size: tuple, dtype: torch.dtype, seed: int) -> None:
    batch, classes, height, width = size
    state = LabelState(
        maps_of(kind, size, dtype, seed),
        has_background=False,
        size=(height, width),
        images=torch.full((batch, 3, height, width), 127, dtype=torch.uint8),
        labels=None if labels is None else torch.full((batch, classes), labels),
        boxes=torch.tensor([[0, height, 0, 1]] * batch),
    )
    for config in CHAINS[name]:
        state = PSEUDO_LABEL_STEPS.build(config)(state)
    assert state.maps.isfinite().all()
    if state.mask is not None:
        assert state.mask.shape == (batch, height, width)
        assert ((state.mask <= classes) | (state.mask == 255)).all()
        assert (state.mask >= 0).all()
