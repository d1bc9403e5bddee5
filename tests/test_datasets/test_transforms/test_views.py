"""Two views and the records of their geometry."""

from __future__ import annotations

import numpy as np
import pytest

from mmwsss.datasets.transforms import TwoViews
from mmwsss.datasets.transforms.views import replay_record, replay_record_on_mask, sample_crop_box
from mmwsss.registry import TRANSFORMS
from mmwsss.utils import seeded

SMALL = dict(view_2_size=8, crop_size=8, crop_grid=4)


def results_of(height: int = 16, width: int = 16) -> dict:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return dict(img=image, gt_seg_map=image[..., 0].copy(), seg_fields=['gt_seg_map'])


def test_crop_boxes_lie_on_the_grid_and_inside() -> None:
    np.random.seed(0)
    boxes = np.stack([sample_crop_box((16, 24), 8, 4) for _ in range(300)])
    assert boxes.dtype == np.float32
    assert (boxes % 4 == 0).all()
    assert (boxes[:, 2:] - boxes[:, :2] == 8).all()
    assert set(boxes[:, 0]) == {0, 4, 8}
    assert set(boxes[:, 1]) == {0, 4, 8, 12, 16}


def test_records_replay_both_views() -> None:
    for seed in range(12):
        original = results_of()
        with seeded(seed):
            results = TwoViews(**SMALL, crop_prob=0.5).transform(results_of())
        assert results['img'].shape == (16, 16, 3)
        assert results['img_2'].shape == (8, 8, 3)
        assert results['img'].dtype == results['img_2'].dtype == np.float32
        np.testing.assert_array_equal(results['img'], replay_record(original['img'], results['record_1']))
        np.testing.assert_array_equal(results['img_2'], replay_record(original['img'], results['record_2']))
        np.testing.assert_array_equal(results['img'][..., 0], results['gt_seg_map'])
        assert (results['record_1'][3:] == 0).all()
        box, size = results['record_2'][3:7], results['record_2'][7:]
        assert (size == 0).all() if box.any() else (size == 8).all()


def test_views_draw_their_flips_independently() -> None:
    with seeded(0):
        records = [TwoViews(**SMALL).transform(results_of()) for _ in range(60)]
    flags = np.stack([[r['record_1'][:3], r['record_2'][:3]] for r in records])
    assert (np.abs(flags.mean(axis=0) - 0.5) < 0.25).all()
    assert 0.1 < (flags[:, 0] == flags[:, 1]).all(axis=-1).mean() + 0.1 < 0.5


@pytest.mark.parametrize('flip', ['flip_lr_prob', 'flip_ud_prob', 'transpose_prob'])
def test_each_flip_acts_on_image_and_mask(flip: str) -> None:
    still = dict(flip_lr_prob=0, flip_ud_prob=0, transpose_prob=0)
    original = results_of(8, 12)
    results = TwoViews(**{**still, flip: 1}, second_view=False).transform(results_of(8, 12))
    change = {
        'flip_lr_prob': lambda a: a[:, ::-1],
        'flip_ud_prob': lambda a: a[::-1],
        'transpose_prob': lambda a: np.swapaxes(a, 0, 1),
    }[flip]
    np.testing.assert_array_equal(results['img'], change(original['img']))
    np.testing.assert_array_equal(results['gt_seg_map'], change(original['gt_seg_map']))
    assert results['img_shape'] == results['img'].shape[:2]
    assert results['gt_seg_map'].dtype == np.uint8


def test_mask_follows_a_crop_and_resize() -> None:
    mask = np.arange(64).reshape(8, 8)
    record = np.array([1, 0, 1, 2, 0, 6, 4, 0, 0], dtype=np.float32)
    np.testing.assert_array_equal(replay_record_on_mask(mask, record), mask[2:6, :4][:, ::-1].T)
    record[7:] = 7
    assert replay_record_on_mask(mask, record).shape == (7, 7)


def test_one_view_only() -> None:
    results = TwoViews(second_view=False).transform(results_of())
    assert 'img_2' not in results
    assert 'record_2' not in results


def test_views_of_a_rectangle() -> None:
    results = TwoViews(**SMALL, crop_prob=0, transpose_prob=0).transform(results_of(16, 24))
    assert results['img'].shape == (16, 24, 3)
    assert results['img_2'].shape == (8, 8, 3)


def test_colours_are_drawn_for_each_view() -> None:
    still = dict(flip_lr_prob=0, flip_ud_prob=0, transpose_prob=0, crop_prob=0, view_2_size=16)
    results = TwoViews(**still, color=dict(contrast=(0.5, 2))).transform(results_of())
    assert not np.allclose(results['img'], results['img_2'])
    plain = TwoViews(**still).transform(results_of())
    np.testing.assert_array_equal(plain['img'], plain['img_2'])


def test_same_seed_same_views() -> None:
    step = TRANSFORMS.build(dict(type='TwoViews', **SMALL, color={}))
    outs = []
    for seed in (3, 3, 4):
        with seeded(seed):
            outs.append(step.transform(results_of()))
    np.testing.assert_array_equal(outs[0]['img_2'], outs[1]['img_2'])
    assert not np.array_equal(outs[0]['img_2'], outs[2]['img_2'])


def test_crop_larger_than_the_image() -> None:
    with pytest.raises(ValueError, match=r'crop_size=32 exceeds the image \(16, 16\)'):
        TwoViews(crop_size=32, crop_prob=1).transform(results_of())
