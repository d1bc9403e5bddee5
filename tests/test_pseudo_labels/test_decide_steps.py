"""Steps that refine maps, decide masks and ignore pixels, and chains of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmwsss.pseudo_labels import (
    clear_argmax,
    decision_confidence,
    ignore_between,
    ignore_outside_boxes,
    inside_boxes,
    label_probabilities,
    maps_to_mask,
    proportional_mask,
    refine_two_labels,
    two_label_maps,
    two_threshold_mask,
)
from mmwsss.pseudo_labels.labeler import LabelState, PseudoLabeler
from mmwsss.refiners import PAR, Refiner
from mmwsss.registry import PSEUDO_LABEL_STEPS


class ToyRefiner(Refiner):
    """Scales the maps of present classes to a distribution and remembers what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def __call__(self, images: Tensor, maps: Tensor, labels: Tensor | None = None) -> Tensor:
        self.calls.append((images, maps, labels))
        return maps / maps.sum(dim=1, keepdim=True).clamp(min=1e-9)


def state_of(maps: Tensor, has_background: bool = False, **fields: object) -> LabelState:
    images = torch.randint(0, 256, (len(maps), 3, *maps.shape[-2:]), generator=torch.Generator().manual_seed(0))
    return LabelState(maps, has_background, tuple(maps.shape[-2:]), **{'images': images, **fields})


def build(name: str, **arguments: object):
    return PSEUDO_LABEL_STEPS.build(dict(type=name, **arguments))


def test_decide_uses_its_own_setting_before_that_of_the_state() -> None:
    state = state_of(torch.rand(2, 3, 4, 5), bg_setting=0.7)
    own = build('Decide', bg_setting=0.2)(state)
    assert torch.equal(own.mask, maps_to_mask(state.maps, 0.2, False))
    assert own.bg_setting == 0.2
    inherited = build('Decide')(state)
    assert torch.equal(inherited.mask, maps_to_mask(state.maps, 0.7, False))
    assert inherited.bg_setting == 0.7
    assert (own.mask > 0).sum() > (inherited.mask > 0).sum()


def test_refine_passes_images_maps_and_labels() -> None:
    state = state_of(torch.rand(2, 3, 4, 5), True, labels=torch.tensor([[1.0, 0], [0, 1]]))
    refiner = ToyRefiner()
    out = build('Refine', refiner=refiner)(state)
    (images, maps, labels) = refiner.calls[0]
    assert images is state.images
    assert torch.equal(maps, state.maps)
    assert labels is state.labels
    torch.testing.assert_close(out.maps.sum(dim=1), torch.ones(2, 4, 5))
    assert out.has_background
    build('Refine', refiner=refiner, prune=False)(state)
    assert refiner.calls[1][2] is None
    plain = replace(state, has_background=False, labels=None, bg_setting=0.3)
    out = build('Refine', refiner=refiner)(plain)
    assert (out.has_background, out.bg_setting, out.maps.shape) == (False, 0.3, state.maps.shape)


def test_a_walk_with_a_background_is_chained_after_it() -> None:
    state = state_of(torch.rand(2, 3, 16, 16), labels=torch.tensor([[1.0, 0, 1], [0, 1, 0]]))
    walk = dict(type='RandomWalk', affinity=dict(type='ColourAffinity', radius=2), logt=2, stride=4)
    steps = [dict(type='MaskAbsent'), dict(type='AddBackground', power=4), dict(type='Refine', refiner=walk)]
    for labels in (state.labels, None):
        out = PseudoLabeler([*steps, dict(type='Decide')])(replace(state, labels=labels))
        assert out.maps.shape == (2, 4, 16, 16)
        assert out.has_background
        assert out.maps[:, 0].min() > 0


def test_refine_builds_from_a_config_and_zeroes_absent_classes() -> None:
    state = state_of(torch.rand(1, 3, 8, 9), labels=torch.tensor([[1.0, 0, 1]]))
    out = build('Refine', refiner=dict(type='PAR', iterations=2))(state)
    torch.testing.assert_close(out.maps, PAR(iterations=2)(state.images, state.maps, state.labels))
    assert out.maps[0, 1].abs().max() == 0
    assert not out.has_background


def test_a_crf_without_background_names_the_step_to_add() -> None:
    state = state_of(torch.rand(1, 2, 4, 5))
    with pytest.raises(ValueError, match='AddBackground'):
        build('Refine', refiner=dict(type='DenseCRF'))(state)
    steps = [dict(type='AddBackground', threshold=0.4), dict(type='Refine', refiner=dict(type='DenseCRF'))]
    mask = PseudoLabeler([*steps, dict(type='Decide')])(state).mask
    assert mask.shape == (1, 4, 5)


def test_two_thresholds_without_resizing_are_two_comparisons() -> None:
    maps = torch.tensor([0.9, 0.5, 0.1, 0.8, 0.2, 0.95]).reshape(1, 2, 1, 3)
    # best classes: 0.9 of the first, 0.5 of the first, 0.95 of the second
    mask = two_threshold_mask(maps, high=0.7, low=0.3, down_scale=0)
    assert mask.tolist() == [[[1, 255, 2]]]
    assert two_threshold_mask(maps, 0.7, 0.3, torch.tensor([[0.0, 1]]), 0).tolist() == [[[2, 0, 2]]]
    assert two_threshold_mask(maps, 0.7, 0.3, torch.zeros(1, 2), 0).tolist() == [[[0, 0, 0]]]
    assert two_threshold_mask(maps, 0.7, 0.7, down_scale=0).tolist() == [[[1, 0, 2]]]
    tensors = two_threshold_mask(maps, torch.tensor(0.7), torch.tensor(0.3), down_scale=0, ignore_index=99)
    assert tensors.tolist() == [[[1, 99, 2]]]


def test_merging_of_the_two_masks() -> None:
    high, low = torch.tensor([2, 0, 0]), torch.tensor([2, 1, 0])
    assert ignore_between(high, low, 254).tolist() == [2, 254, 0]


@pytest.mark.parametrize('refiner', [None, dict(type='PAR', iterations=2, dilations=(1, 2))])
def test_two_thresholds_of_a_batch_are_those_of_its_images(refiner: dict | None) -> None:
    labels = torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 1]])
    state = state_of(torch.rand(3, 3, 12, 15), labels=labels)
    step = build('TwoThresholdMask', high=0.7, low=0.4, refiner=refiner)
    assert step.needs_images == (refiner is not None)
    whole = step(state)
    assert whole.bg_setting is None
    assert (whole.mask[1] == 0).all()
    for i in range(3):
        part = LabelState(state.maps[i : i + 1], False, state.size, state.images[i : i + 1], labels[i : i + 1])
        assert torch.equal(step(part).mask[0], whole.mask[i])


def test_one_affinity_serves_both_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    monkeypatch.setattr(PAR, 'affinity', lambda self, images, make=PAR.affinity: built.append(1) or make(self, images))
    build('TwoThresholdMask', high=0.7, low=0.4, refiner=dict(type='PAR'))(state_of(torch.rand(1, 2, 8, 8)))
    assert len(built) == 1


def test_the_smaller_object_wins_an_overlap() -> None:
    maps = torch.zeros(1, 2, 4, 4)
    maps[0, 0] = 0.9
    maps[0, 1, 1:3, 1:3] = 0.8
    mask = proportional_mask(maps, maps > 0.5)
    assert (mask[0, 1:3, 1:3] == 2).all()
    assert (mask == 1).sum() == 12
    assert proportional_mask(maps, torch.zeros(1, 2, 4, 4, dtype=torch.bool)).sum() == 0
    assert proportional_mask(torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4, dtype=torch.bool)).sum() == 0


def test_two_label_maps_and_their_refinement_in_one_call() -> None:
    maps, present = torch.rand(2, 3, 4, 5), torch.tensor([[True, False, True], [False, True, False]])
    images, refiner = torch.rand(2, 3, 4, 5), ToyRefiner()
    pairs = two_label_maps(maps, 3)
    torch.testing.assert_close(pairs[:, :, 0], (1 - maps) ** 3)
    out = refine_two_labels(images, pairs, refiner, present)
    torch.testing.assert_close(out[present], (maps / (maps + (1 - maps) ** 3))[present])
    assert out[~present].abs().max() == 0
    assert len(refiner.calls) == 1
    assert torch.equal(refiner.calls[0][0], images[[0, 0, 1]])
    assert refine_two_labels(images, pairs, refiner, present & False).abs().max() == 0
    assert len(refiner.calls) == 1


def test_proportional_step_smooths_the_foreground_but_not_the_shares() -> None:
    maps = torch.rand(2, 3, 6, 7, dtype=torch.float16)
    state = state_of(maps, labels=torch.tensor([[1.0, 1, 0], [0, 0, 0]]))
    step = build('ProportionalMask', smoothing=dict(scale=0.5), power=2)
    step.refiner = ToyRefiner()
    out = step(state)
    smooth = build('SmoothVariation', scale=0.5)(state).maps
    foreground = (smooth / (smooth + (1 - smooth) ** 2) > 0.5) & state.present[:, :, None, None]
    assert torch.equal(out.mask, proportional_mask(maps, foreground))
    assert (out.mask[0] > 0).any()
    assert (out.mask[0] != 3).all()
    assert (out.mask[1] == 0).all()
    assert out.bg_setting is None


def test_proportional_step_with_its_crf() -> None:
    maps = torch.zeros(1, 2, 16, 16)
    maps[0, 0, 4:12, 4:12] = 0.95
    state = state_of(maps, images=torch.full((1, 3, 16, 16), 60.0) + 120 * (maps[:, :1] > 0))
    mask = build('ProportionalMask', crf=dict(iterations=3))(state).mask
    assert torch.equal(mask[0] == 1, maps[0, 0] > 0)
    assert build('ProportionalMask', crf=dict(iterations=3)).refiner.gaussian_weight == 10
    assert isinstance(build('ProportionalMask', crf=dict(type='PAR')).refiner, PAR)


def test_confidence_is_the_score_of_the_decided_class() -> None:
    maps = torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]).T.reshape(1, 3, 1, 3)
    mask = torch.tensor([[[1, 2, 255]]])
    torch.testing.assert_close(decision_confidence(maps, mask, True), torch.tensor([[[0.6, 0.2, 0.6]]]))
    foreground, mask = maps[:, 1:], torch.tensor([[[1, 0, 2]]])
    torch.testing.assert_close(decision_confidence(foreground, mask, False), torch.tensor([[[0.6, 0.7, 0.6]]]))
    ignored = build('IgnoreUncertain', confidence=0.65, ignore_index=9)(state_of(foreground, mask=mask))
    assert ignored.mask.tolist() == [[[9, 0, 9]]]


def test_outside_of_boxes_is_ignored() -> None:
    boxes = torch.tensor([[1, 3, 0, 2], [0, -1, 0, -1], [0, 4, 0, 5]], dtype=torch.int16)
    inside = inside_boxes(boxes, (4, 5))
    for i, (top, bottom, left, right) in enumerate(boxes.tolist()):
        expected = torch.zeros(4, 5, dtype=torch.bool)
        expected[top:bottom, left:right] = True
        assert torch.equal(inside[i], expected)
    mask = torch.ones(3, 4, 5, dtype=torch.long)
    state = state_of(torch.rand(3, 2, 4, 5), mask=mask, boxes=boxes)
    out = build('IgnoreOutsideBox')(state).mask
    assert torch.equal(out, ignore_outside_boxes(mask, boxes))
    assert torch.equal(out == 255, ~inside)
    unpadded = replace(state, boxes=None)
    assert build('IgnoreOutsideBox')(unpadded) is unpadded


def test_probabilities_of_present_classes() -> None:
    logits, labels = torch.randn(2, 4, 3, 3), torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    hard = label_probabilities(logits, labels)
    assert hard[0, 2].max() == 0
    assert (hard[1, 0] == 1).all()
    soft = label_probabilities(logits, labels, 1.0)
    torch.testing.assert_close(soft[0, [0, 1, 3]], logits[0, [0, 1, 3]].softmax(dim=0))
    after = label_probabilities(logits.half(), labels, 1.0, mask_after_softmax=True)
    assert after.dtype == torch.float32
    assert (after.sum(dim=1) < 1).all()


def test_unclear_pixels_are_ignored() -> None:
    logits = torch.tensor([[0.0, 0.5], [2.0, 0.4]]).reshape(1, 2, 1, 2)
    assert clear_argmax(logits, ratio=1.5, ignore_index=7).tolist() == [[[1, 7]]]


CHAINS = {
    'plain': ['MaskAbsent', 'PeakNormalize', 'Resize', dict(type='Decide', bg_setting=0.4)],
    'crf': [
        'MaskAbsent',
        'PeakNormalize',
        dict(type='AddBackground', power=4),
        'Distribution',
        'Resize',
        dict(type='Refine', refiner=dict(type='DenseCRF', iterations=2)),
        'Decide',
        dict(type='IgnoreUncertain', confidence=0.5),
        'IgnoreOutsideBox',
    ],
    'banded': ['MinMaxNormalize', 'Resize', dict(type='TwoThresholdMask', high=0.7, low=0.3), 'IgnoreOutsideBox'],
    'proportional': ['MaskAbsent', 'PeakNormalize', 'Resize', dict(type='ProportionalMask', smoothing=dict())],
}


@pytest.mark.parametrize('name', sorted(CHAINS))
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_chains_serve_batches_without_foreground_and_half_precision(name: str, dtype: torch.dtype) -> None:
    labeler = PseudoLabeler([dict(type=step) if isinstance(step, str) else dict(step) for step in CHAINS[name]])
    generator = torch.Generator().manual_seed(1)
    maps = torch.rand(4, 3, 6, 7, generator=generator)
    maps[2] = 0.0
    maps[3] = 0.5
    labels = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 0], [0, 0, 1]])
    images = torch.randint(0, 256, (4, 3, 12, 14), generator=generator, dtype=torch.uint8)
    boxes = torch.tensor([[0, 12, 0, 14]] * 4)

    def run(part: slice) -> Tensor:
        return labeler(LabelState(maps[part].to(dtype), False, (12, 14), images[part], labels[part], boxes[part])).mask

    mask = run(slice(None))
    assert mask.dtype == torch.int64
    assert mask.shape == (4, 12, 14)
    assert set(mask[0].unique().tolist()) <= {0, 1, 3, 255}
    assert (mask[0] % 255 > 0).any()
    assert set(mask[1].unique().tolist()) <= {0, 255}
    assert set(mask[2].unique().tolist()) <= {0, 255}
    assert torch.equal(mask, torch.cat([run(slice(i, i + 1)) for i in range(4)]))


@pytest.mark.parametrize(
    ('step', 'message'),
    [
        (dict(type='Decide', bg_setting=-1), 'bg_setting of Decide is -1'),
        (dict(type='TwoThresholdMask', high=0.2, low=0.7), 'exchange'),
        (dict(type='TwoThresholdMask', high=1.2, low=0.7), 'high of TwoThresholdMask'),
        (dict(type='TwoThresholdMask', high=0.7, low=0.2, down_scale=1.5), 'whole number'),
        (dict(type='TwoThresholdMask', high=0.7, low=0.2, down_scale=-2), 'down_scale'),
        (dict(type='TwoThresholdMask', high=0.7, low=0.2, refiner='PAR'), "dict\\(type='PAR'\\)"),
        (dict(type='Refine', refiner=dict(iterations=2)), 'refiner of Refine'),
        (dict(type='ProportionalMask', power=-1), 'power of ProportionalMask'),
        (dict(type='ProportionalMask', smoothing=dict(scale=-1)), 'scale of SmoothVariation'),
        (dict(type='IgnoreUncertain', confidence=2), 'confidence of IgnoreUncertain'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_arguments_are_checked(step: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PSEUDO_LABEL_STEPS.build(step)


@pytest.mark.parametrize(
    ('step', 'fields', 'message'),
    [
        (dict(type='Decide'), dict(size=(9, 9)), 'put Resize before it'),
        (dict(type='Decide'), dict(bg_setting=None), 'give Decide one'),
        (dict(type='TwoThresholdMask', high=0.7, low=0.3), dict(size=(9, 9)), 'put Resize before it'),
        (dict(type='TwoThresholdMask', high=0.7, low=0.3), dict(has_background=True), 'DropBackground'),
        (dict(type='ProportionalMask'), dict(has_background=True), 'DropBackground'),
        (dict(type='ProportionalMask'), dict(size=(9, 9)), 'put Resize before it'),
        (dict(type='IgnoreUncertain', confidence=0.5), {}, 'needs a decided mask'),
        (dict(type='IgnoreOutsideBox'), {}, 'needs a decided mask'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_a_state_that_does_not_fit_names_the_missing_step(step: dict, fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PSEUDO_LABEL_STEPS.build(step)(replace(state_of(torch.rand(1, 2, 4, 4)), **fields))


def test_images_are_asked_for_only_where_a_step_reads_them() -> None:
    assert not PseudoLabeler([dict(type='TwoThresholdMask', high=0.7, low=0.3)]).needs_images
    labeler = PseudoLabeler([dict(type='TwoThresholdMask', high=0.7, low=0.3, refiner=dict(type='PAR'))])
    with pytest.raises(ValueError, match='TwoThresholdMask'):
        labeler(state_of(torch.rand(1, 2, 4, 4), images=None))
    with pytest.raises(ValueError, match='PAR between two thresholds needs images'):
        two_threshold_mask(torch.rand(1, 2, 4, 4), 0.7, 0.3, refiner=PAR())
