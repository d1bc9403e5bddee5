"""Thresholds that stay and thresholds that follow the maps."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from processes import start_ranks
from torch import Tensor

from mmwsss.pseudo_labels import FixedThreshold, SearchedThreshold, search_thresholds
from mmwsss.pseudo_labels.dynamic_threshold import best_scores
from mmwsss.registry import MODELS

SETTINGS = dict(high=0.7, low=0.25, rows=6, size=(32, 48), cell=8, decay=0.9)


def make_maps(seed: int, batch: int = 2, size: tuple[int, int] = (32, 48)) -> Tensor:
    """Maps of three classes whose best scores have three modes."""
    generator = torch.Generator().manual_seed(seed)
    maps = 0.15 + 0.04 * torch.randn(batch, 3, *size, generator=generator)
    maps[:, 1, 8:24, :24] += 0.35
    maps[:, 2, :24, 24:] += 0.7
    return maps.clamp(0, 1)


def make(**settings) -> SearchedThreshold:
    return MODELS.build(dict(type='SearchedThreshold', **{**SETTINGS, **settings}))


def test_fixed_thresholds() -> None:
    threshold = MODELS.build(dict(type='FixedThreshold', high=0.7, low=0.25))
    assert isinstance(threshold, FixedThreshold)
    for found in (threshold(), threshold(make_maps(0))):
        assert [(value.shape, value.dtype) for value in found] == [((), torch.float32)] * 2
        torch.testing.assert_close(torch.stack(found), torch.tensor([0.7, 0.25]))
    assert threshold.state_dict() == {}
    assert (FixedThreshold.learns, SearchedThreshold.learns) == (False, True)
    assert threshold.to('meta')()[0].device.type == 'meta'


def test_one_call_writes_searches_and_smooths() -> None:
    threshold, maps = make(start='empty'), make_maps(0)
    high, low = threshold(maps)
    down = F.interpolate(maps, size=(4, 6), mode='bilinear', align_corners=False).amax(dim=1).flatten(1)
    assert torch.equal(threshold.queue[:2], down)
    low_star, high_star = search_thresholds(down)
    assert torch.equal(threshold.last_search, torch.stack((low_star, high_star)))
    assert (high.shape, high.dtype, low.shape, low.dtype) == ((), torch.float32, (), torch.float32)
    assert threshold.high.item() == pytest.approx(0.9 * 0.7 + 0.1 * high_star.item(), abs=1e-12)
    assert threshold.low.item() == pytest.approx(0.9 * 0.25 + 0.1 * low_star.item(), abs=1e-12)
    assert high.item() == pytest.approx(threshold.high.item(), abs=1e-7)
    assert low.item() == pytest.approx(threshold.low.item(), abs=1e-7)
    kept = high.clone()
    threshold(make_maps(1))
    assert torch.equal(high, kept), 'returned values do not change with the state'
    assert not torch.equal(threshold.high.float(), kept)


@pytest.mark.parametrize('rows', [4, 5, 6, 7])
@pytest.mark.parametrize('start', ['noise', 'empty'])
def test_the_oldest_rows_are_overwritten(rows: int, start: str) -> None:
    threshold = make(rows=rows, start=start)
    expected = threshold.queue.clone()
    for call in range(5):
        maps = make_maps(call, batch=3)
        threshold(maps)
        for i, row in enumerate(best_scores(maps, 8)):
            expected[(3 * call + i) % rows] = row
        assert torch.equal(threshold.queue, expected)
        assert threshold.pointer == 3 * (call + 1) % rows
        assert threshold.filled == (rows if start == 'noise' else min(3 * (call + 1), rows))


def test_noise_takes_part_and_unused_rows_do_not() -> None:
    maps = make_maps(3)
    noisy, empty = make(), make(start='empty')
    assert 0.4 < noisy.queue.mean() < 0.6
    noisy(maps)
    empty(maps)
    assert torch.equal(noisy.last_search, torch.stack(search_thresholds(noisy.queue)))
    assert torch.equal(empty.last_search, torch.stack(search_thresholds(best_scores(maps, 8))))
    assert not torch.allclose(noisy.last_search, empty.last_search, atol=1e-3)
    below = make(start='empty', floor=-1.0)  # unused rows stay out whatever the floor
    below(maps)
    assert torch.equal(below.last_search, torch.stack(search_thresholds(best_scores(maps, 8), floor=-1.0)))


def test_noise_depends_on_the_seed_and_takes_one_draw() -> None:
    queues, following = [], []
    for seed, rows in ((5, 6), (5, 60), (6, 6)):
        torch.manual_seed(seed)
        queues.append(make(rows=rows).queue)
        following.append(torch.rand(3))
    assert torch.equal(queues[0], queues[1][:6])
    assert not torch.equal(queues[0], queues[2])
    assert torch.equal(following[0], following[1])


@pytest.mark.parametrize('maps', [torch.zeros(2, 3, 32, 48), torch.full((2, 3, 32, 48), 0.5), torch.ones(2, 1, 32, 48)])
@pytest.mark.parametrize('components', [2, 3])
def test_maps_that_give_nothing_leave_the_thresholds(maps: Tensor, components: int) -> None:
    threshold = make(start='empty', components=components, high=0.5, low=0.5, between_means=True)
    high, low = threshold(maps)
    assert threshold.last_search is None
    assert (high, low) == (0.5, 0.5)
    assert threshold.filled == 2


def test_the_last_search_is_forgotten_where_nothing_is_found() -> None:
    threshold = make(start='empty', rows=2)
    threshold(make_maps(0))
    assert threshold.last_search is not None
    before = threshold.high.clone()
    threshold(torch.zeros(2, 3, 32, 48))
    assert threshold.last_search is None
    assert torch.equal(threshold.high, before)


def test_two_components_search_one_threshold() -> None:
    threshold = make(start='empty', components=2, high=0.4, low=0.4)
    for call in range(3):
        high, low = threshold(make_maps(call))
        assert torch.equal(high, low)
        assert torch.equal(threshold.last_search[0], threshold.last_search[1])
    assert high != 0.4


def test_settings_reach_the_search() -> None:
    settings = dict(tolerance=1e-9, max_iterations=500, regularisation=1e-4, between_means=True)
    threshold = make(start='empty', floor=0.2, **settings)
    threshold(make_maps(2))
    scores = threshold.queue[:2]
    assert torch.equal(threshold.last_search, torch.stack(search_thresholds(scores, floor=0.2, **settings)))
    assert not torch.allclose(threshold.last_search, torch.stack(search_thresholds(scores)), atol=1e-3)


def test_a_checkpoint_holds_all_state() -> None:
    straight = make()
    for call in range(3):
        straight(make_maps(call))
    resumed = make()
    resumed.load_state_dict(copy.deepcopy(straight.state_dict()))
    assert set(straight.state_dict()) == {'queue', 'pointer', 'filled', 'high', 'low'}
    for call in range(3, 6):
        assert torch.equal(torch.stack(straight(make_maps(call))), torch.stack(resumed(make_maps(call))))
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in straight.state_dict().items())


def test_mixed_precision_changes_nothing() -> None:
    plain, mixed = make(start='empty'), make(start='empty')
    maps = make_maps(0).bfloat16()
    expected = plain(maps.float())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = mixed(maps)
    assert torch.equal(torch.stack(found), torch.stack(expected))


def test_a_device_without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    wide, narrow = make(start='empty'), make(start='empty')
    for module in ('dynamic_threshold', 'searched'):
        monkeypatch.setattr(f'mmwsss.pseudo_labels.{module}.widest_float', lambda device: torch.float32)
    narrow.to('cpu')
    assert {value.dtype for value in narrow.buffers()} == {torch.float32, torch.int64}
    narrow.load_state_dict(wide.state_dict())
    found = torch.stack(narrow(make_maps(0)))
    assert narrow.last_search.dtype == torch.float32
    monkeypatch.undo()
    torch.testing.assert_close(found, torch.stack(wide(make_maps(0))), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(high=0.2), 'has high=0.2 and low=0.25; expected 0 <= low <= high <= 1'),
        (dict(high=1.5), 'has high=1.5'),
        (dict(components=4), 'components of SearchedThreshold is 4; expected 2'),
        (dict(components=2), 'one threshold with components=2; set high=0.7 and low=0.25 to one value'),
        (dict(decay=1.5), 'decay of SearchedThreshold is 1.5'),
        (dict(start='zeros'), "start of SearchedThreshold is 'zeros'; expected 'noise' or 'empty'"),
        (dict(rows=0), 'has rows=0'),
        (dict(size=4), r'size=\(4, 4\) and cell=8; expected at least one row, and cells that fit'),
    ],
)
def test_bad_settings(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchedThreshold(**{**SETTINGS, **settings})
    with pytest.raises(ValueError, match=r'FixedThreshold has high=0\.1 and low=0\.2'):
        FixedThreshold(0.1, 0.2)


def test_maps_that_do_not_fit() -> None:
    threshold = make()
    before = threshold.queue.clone()
    with pytest.raises(ValueError, match=r'made for maps of \(32, 48\), got \(48, 32\); set model\.threshold\.size'):
        threshold(make_maps(0, size=(48, 32)))
    with pytest.raises(ValueError, match='rows=6 for 7 images of one step; set rows higher'):
        threshold(make_maps(0, batch=7))
    assert torch.equal(threshold.queue, before)
    assert SearchedThreshold(0.7, 0.25, rows=3, size=50).queue.shape == (3, 9)


def _rank(rank: int) -> list[dict[str, Tensor]]:
    torch.manual_seed(rank)  # of which the noise comes
    settings = (dict(start='empty', gather=True), dict(start='empty'), dict(start='noise', gather=True))
    thresholds = [make(rows=7, **each) for each in settings]
    for call in range(3):
        half = make_maps(call, batch=4)[2 * rank : 2 * rank + 2]
        for threshold in thresholds[: 2 if call else 3]:  # one call leaves most of the noise in the buffer
            threshold(half)
    return [threshold.state_dict() for threshold in thresholds]


def test_two_processes_that_gather_equal_one(tmp_path: Path) -> None:
    ranks = start_ranks(_rank, 2, tmp_path)
    one = make(start='empty', rows=7, gather=True)
    for call in range(3):
        one(make_maps(call, batch=4))
    torch.manual_seed(0)
    noisy = make(start='noise', rows=7, gather=True)
    noisy(make_maps(0, batch=4))
    for gathered, _, from_noise in ranks:
        for expected, found in ((one, gathered), (noisy, from_noise)):
            for name, value in expected.state_dict().items():
                assert torch.equal(found[name], value), name
    assert not torch.equal(ranks[0][1]['queue'], ranks[1][1]['queue']), 'otherwise each has its own'
    assert ranks[0][1]['pointer'] == 6
