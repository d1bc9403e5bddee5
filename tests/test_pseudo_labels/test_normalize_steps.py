"""Steps that turn maps into other maps, on tiny maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmwsss.ops import RESIZERS
from mmwsss.pseudo_labels import (
    coefficient_of_variation,
    constant_background,
    mask_maps_with_labels,
    min_max_normalize,
    power_background,
    smooth_variation,
    to_distribution,
)
from mmwsss.pseudo_labels.labeler import LabelState
from mmwsss.registry import PSEUDO_LABEL_STEPS


def run(name: str, state: LabelState, **arguments: object) -> LabelState:
    return PSEUDO_LABEL_STEPS.build(dict(type=name, **arguments))(state)


def state_of(maps: torch.Tensor, has_background: bool = False, **fields: object) -> LabelState:
    return LabelState(maps, has_background, tuple(maps.shape[-2:]), **fields)


def test_min_max_matches_its_definition() -> None:
    maps = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    low, high = maps.amin((2, 3), True), maps.amax((2, 3), True)
    torch.testing.assert_close(min_max_normalize(maps), (maps - low) / (high - low + 1e-5))
    shifted = min_max_normalize(maps, eps=0.1, shift=0.2)
    torch.testing.assert_close(shifted, (maps - low - 0.2) / (high - low + 0.1))


def test_min_max_cut_sets_low_values_to_zero_before_the_minimum_goes() -> None:
    maps = torch.tensor([[[1.0, 1.05, 2.0]]])
    out = min_max_normalize(maps, eps=1.0, cut=0.1)
    torch.testing.assert_close(out, torch.tensor([[[-0.5, -0.5, 0.5]]]))


def test_constant_and_empty_maps_become_zero() -> None:
    maps = torch.stack((torch.full((2, 3), 0.7), torch.zeros(2, 3)))
    assert min_max_normalize(maps).abs().max() == 0
    assert to_distribution(torch.zeros(1, 2, 2, 2)).abs().max() == 0


def test_min_max_step_keeps_absent_classes_at_zero() -> None:
    maps, labels = torch.rand(2, 3, 4, 4), torch.tensor([[1.0, 0, 0], [0, 0, 0]])
    out = run('MinMaxNormalize', state_of(maps, labels=labels), cut=1e-5, shift=1e-5).maps
    torch.testing.assert_close(out[0, 0], min_max_normalize(maps, 1e-5, 1e-5, 1e-5)[0, 0])
    assert out[0, 1:].abs().max() == 0
    assert out[1].abs().max() == 0


def test_absent_classes_go_and_the_background_stays() -> None:
    maps, labels = torch.rand(2, 4, 3, 3), torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    state = state_of(maps, True, labels=labels)
    out = run('MaskAbsent', state).maps
    assert torch.equal(out[0, [0, 1, 3]], maps[0, [0, 1, 3]])
    assert out[0, 2].abs().max() == 0
    assert torch.equal(out[1, 0], maps[1, 0])
    assert out[1, 1:].abs().max() == 0
    assert torch.equal(state.maps, maps)
    assert torch.equal(run('MaskAbsent', state_of(maps, True)).maps, maps)


def test_three_steps_are_the_masking_of_vitpcm() -> None:
    maps = torch.rand(3, 4, 5, 6).softmax(dim=1)
    maps[0, :, 1, 2] = 0
    labels = torch.tensor([[1.0, 0, 1], [0, 1, 0], [0, 0, 0]])
    state = state_of(maps, True, labels=labels)
    for name in ('MaskAbsent', 'PeakNormalize', 'Distribution'):
        state = run(name, state)
    assert torch.equal(state.maps, mask_maps_with_labels(maps, torch.cat((torch.ones(3, 1), labels), dim=1)))


@pytest.mark.parametrize('rule', sorted(RESIZERS))
def test_resize_reaches_the_size_of_the_mask(rule: str) -> None:
    maps = torch.rand(2, 3, 4, 5)
    out = run('Resize', LabelState(maps, False, (7, 9)), rule=rule).maps
    torch.testing.assert_close(out, RESIZERS[rule](maps, (7, 9)))
    constant = run('Resize', LabelState(torch.full((1, 1, 4, 5), 0.3), False, (7, 9)), rule=rule).maps
    torch.testing.assert_close(constant, torch.full((1, 1, 7, 9), 0.3))


def test_resizing_rules_differ() -> None:
    maps = torch.rand(1, 1, 4, 5)
    results = [rule(maps, (7, 9)) for rule in RESIZERS.values()]
    assert all((a - b).abs().max() > 1e-3 for i, a in enumerate(results) for b in results[:i])


def test_background_by_threshold_power_and_setting() -> None:
    maps = torch.tensor([0.2, 0.9, 0.5, 0.1]).reshape(1, 2, 1, 2)
    fixed = run('AddBackground', state_of(maps, bg_setting=0.4), threshold=0.3)
    assert torch.equal(fixed.maps, constant_background(maps, 0.3))
    assert fixed.maps[:, 0].flatten().tolist() == pytest.approx([0.3, 0.3])
    power = run('AddBackground', state_of(maps), power=2)
    torch.testing.assert_close(power.maps[0, 0, 0], torch.tensor([0.25, 0.01]))
    assert torch.equal(power.maps[:, 1:], maps)
    setting = run('AddBackground', state_of(maps, bg_setting=0.4))
    assert setting.maps[:, 0].flatten().tolist() == pytest.approx([0.4, 0.4])
    for state in (fixed, power, setting):
        assert state.has_background
        assert state.bg_setting == 1
        assert run('AddBackground', state, threshold=0.9) is state
        dropped = run('DropBackground', state)
        assert torch.equal(dropped.maps, maps)
        assert not dropped.has_background
    bare = state_of(maps)
    assert run('DropBackground', bare) is bare


def test_scores_above_one_make_no_negative_background() -> None:
    assert power_background(torch.full((1, 2, 1, 1), 1.5), 3)[0, 0] == 0


def test_smoothing_matches_the_definition_in_loops() -> None:
    maps = np.random.default_rng(0).random((2, 3, 6, 7))
    maps[0, 1] = 0.01
    out = smooth_variation(torch.from_numpy(maps), threshold=0.3, scale=0.4).numpy()
    for b, c in np.ndindex(2, 3):
        values = maps[b, c][maps[b, c] > 0.3]
        variation = values.std() / values.mean() if len(values) else 0
        expected = np.where(maps[b, c] < 0.3, 0, maps[b, c]) ** (1 - 0.4 * variation)
        np.testing.assert_allclose(out[b, c], expected, atol=1e-9)
    assert (out[0, 1] == 0).all()


def test_smoothing_lifts_uneven_maps_only() -> None:
    even, uneven = torch.full((1, 1, 1, 4), 0.5), torch.tensor([0.1, 0.1, 0.1, 1.0]).reshape(1, 1, 1, 4)
    assert coefficient_of_variation(even).item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(run('SmoothVariation', state_of(even)).maps, even)
    assert (run('SmoothVariation', state_of(uneven)).maps[..., :3] > 0.1).all()
    assert torch.equal(smooth_variation(uneven, threshold=0.0, scale=0.0), uneven)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    'step',
    [
        dict(type='MaskAbsent'),
        dict(type='PeakNormalize'),
        dict(type='MinMaxNormalize'),
        dict(type='Distribution'),
        dict(type='Resize'),
        dict(type='AddBackground', power=11),
        dict(type='AddBackground', threshold=0.3),
        dict(type='SmoothVariation'),
    ],
    ids=lambda step: '-'.join(map(str, step.values())),
)
def test_half_precision_is_computed_in_single(step: dict, dtype: torch.dtype) -> None:
    maps = torch.rand(1, 3, 4, 4).clamp(0.06).to(dtype)
    build = PSEUDO_LABEL_STEPS.build
    half = build(dict(step))(LabelState(maps, False, (6, 6))).maps
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, build(dict(step))(LabelState(maps.float(), False, (6, 6))).maps)


@pytest.mark.parametrize('name', ['MinMaxNormalize', 'PeakNormalize', 'Distribution', 'SmoothVariation', 'Resize'])
def test_a_batch_is_its_images_one_by_one(name: str) -> None:
    maps, labels = torch.rand(3, 4, 5, 6), torch.tensor([[1.0, 0, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]])
    whole = run(name, LabelState(maps, False, (8, 9), labels=labels)).maps
    single = [run(name, LabelState(m[None], False, (8, 9), labels=label[None])).maps for m, label in zip(maps, labels)]
    torch.testing.assert_close(whole, torch.cat(single))


@pytest.mark.parametrize(
    ('step', 'message'),
    [
        (dict(type='Resize', rule='cubic'), 'align_corners, half_pixel, skimage'),
        (dict(type='MinMaxNormalize', eps=0), 'eps of MinMaxNormalize is 0'),
        (dict(type='MinMaxNormalize', cut=-1), 'cut of MinMaxNormalize'),
        (dict(type='AddBackground', threshold=0.3, power=2), 'got both'),
        (dict(type='AddBackground', threshold=1.3), 'in \\[0, 1\\]'),
        (dict(type='AddBackground', power=0), 'power of AddBackground'),
        (dict(type='SmoothVariation', threshold='a'), "threshold of SmoothVariation is 'a'"),
        (dict(type='SmoothVariation', scale=-0.1), 'scale of SmoothVariation'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_arguments_are_checked(step: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PSEUDO_LABEL_STEPS.build(step)


def test_a_background_needs_some_setting() -> None:
    with pytest.raises(ValueError, match='bg_setting'):
        run('AddBackground', state_of(torch.rand(1, 2, 2, 2), bg_setting=None))
