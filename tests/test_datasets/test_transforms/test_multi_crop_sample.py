"""Crops whose labels follow stored maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mmwsss.datasets.transforms.multi_crop import MultiCropSample, box_counts, crop_labels, part_of_crops
from mmwsss.pseudo_labels.stored_maps import write_maps
from mmwsss.registry import TRANSFORMS

SIZE = (40, 60)
LABELS = np.array([1, 0, 1], dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Maps of an image whose class 0 is hot on the left and whose class 2 in a corner on the right; not in order."""
    maps = torch.zeros(3, *SIZE)
    maps[0, :10, 50:] = 0.95
    maps[1] = 0.99  # background
    maps[2, :, :20] = 1
    write_maps(tmp_path / 'a.npz', maps, torch.tensor([3, 0, 1]))
    return tmp_path


def sample(**changes) -> dict:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    image = np.stack((rows, columns, rows + columns), axis=2).astype(np.uint8)
    results = dict(img=image, img_path='some/a.jpg', image_labels=LABELS.copy(), seg_fields=['gt_seg_map'])
    return {**results, 'gt_seg_map': image[..., 1].copy(), **changes}


def transform(folder: Path, **settings) -> MultiCropSample:
    settings = dict(scales=(1.0, 2.0), crop_size=30, stride=20) | settings
    return TRANSFORMS.build(dict(type='MultiCropSample', maps_dir=folder, **settings))


def test_counts_are_those_of_slices() -> None:
    rng = np.random.default_rng(0)
    hot = rng.random((3, 20, 30)) > 0.5
    boxes = np.array([[0, 20, 0, 30], [3, 9, 4, 5], [7, 7, 2, 9], [19, 20, 29, 30]])
    expected = [hot[:, t:b, left:right].sum(axis=(1, 2)) for t, b, left, right in boxes]
    np.testing.assert_array_equal(box_counts(hot, boxes), expected)


def test_a_crop_shows_much_of_an_object_or_is_full_of_it() -> None:
    hot = np.zeros((2, 10, 100), dtype=bool)
    hot[0] = True
    hot[1, 0, 0] = True
    boxes = np.array([[0, 10, 0, 9], [5, 10, 50, 100], [0, 1, 0, 100]])
    assert crop_labels(hot, boxes, share=0.1).tolist() == [[True, True], [True, False], [True, True]]
    some = np.array([[0, 10, 95, 100]])
    hot[0, :, :90] = False
    hot[0, :, 94:] = False
    assert not crop_labels(hot, some).any()
    assert not crop_labels(np.zeros_like(hot), boxes).any(), 'a class without hot pixels is shown nowhere'


def test_what_is_erased_does_not_count() -> None:
    hot = np.ones((1, 10, 20), dtype=bool)
    boxes = np.array([[0, 10, 0, 20], [0, 10, 10, 20]])
    assert part_of_crops(boxes, (0, 5, 10, 20), (10, 20)).tolist() == [[0, 5, 10, 20], [0, 5, 15, 20]]
    assert crop_labels(hot, boxes).all()
    assert not crop_labels(hot, boxes, erased=boxes).any()


def test_labels_belong_to_the_crop(folder: Path) -> None:
    step, seen = transform(folder), set()
    for seed in range(40):
        np.random.seed(seed)
        results = step(sample())
        image = results['img']
        assert np.array_equal(image[..., 1], results['gt_seg_map'])
        assert results['img_shape'] == image.shape[:2]
        top, left = image[0, 0, :2]
        height, width = image.shape[:2]
        whole = sample()['img'][top : top + height, left : left + width]
        assert np.array_equal(image, whole)
        first = max(20 - int(left), 0) * height
        second = max(10 - int(top), 0) * max(int(left) + width - 50, 0)
        area = height * width
        expected = [max(first / 800, first / area) > 0.1, 0, max(second / 100, second / area) > 0.1]
        assert results['image_labels'].tolist() == [float(value) for value in expected]
        assert results['image_labels'].dtype == np.float32
        seen.add(tuple(results['image_labels'].tolist()))
    assert {(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)} <= seen


def test_draws_are_repeatable(folder: Path) -> None:
    step, found = transform(folder), []
    for _ in range(2):
        np.random.seed(3)
        found.append([step(sample())['img'] for _ in range(4)])
    assert all(np.array_equal(a, b) for a, b in zip(*found))
    assert len({image.tobytes() for image in found[0]}) > 1


def test_an_image_without_hot_pixels_loses_its_labels(tmp_path: Path) -> None:
    write_maps(tmp_path / 'a.npz', torch.full((2, *SIZE), 0.5), torch.tensor([1, 3]))
    np.random.seed(0)
    results = transform(tmp_path)(sample())
    assert not results['image_labels'].any()
    assert results['img'].size
    write_maps(tmp_path / 'none.npz', torch.zeros(1, *SIZE), torch.tensor([0]))
    results = transform(tmp_path)(sample(img_id='none', image_labels=np.zeros(3, dtype=np.float32)))
    assert not results['image_labels'].any()


def test_missing_maps_are_found_before_training(folder: Path) -> None:
    step = transform(folder)
    assert step.find_problems([dict(img_id='a')]) == []
    (problem,) = step.find_problems([dict(img_id='a'), dict(img_id='b')])
    assert (problem.kind, problem.item) == ('missing maps', str(folder / 'b.npz'))
    (problem,) = transform(folder / 'gone').find_problems([dict(img_id='a'), dict(img_id='b')])
    assert problem.detail.startswith('no such folder; write it with tools/generate_pseudo_labels.py --maps')


def test_mistakes_are_named(folder: Path) -> None:
    step = transform(folder)
    with pytest.raises(FileNotFoundError, match=r'b\.npz.*--maps'):
        step(sample(img_id='b'))
    with pytest.raises(ValueError, match=r'a\.npz holds maps of \(40, 60\) for an image of \(20, 60\).*right after'):
        step(sample(img=sample()['img'][:20]))
    with pytest.raises(ValueError, match=r'a\.npz holds no map of class 2, which the image has'):
        step(sample(image_labels=np.array([1, 1, 0], dtype=np.float32)))
    for settings, message in [
        (dict(scales=()), 'scales of MultiCropSample have to be positive'),
        (dict(stride=0), 'stride=0 have to be positive'),
        (dict(inner_crop='wide'), "inner_crop of MultiCropSample .*'wide'"),
        (dict(threshold=1.0), r'threshold of MultiCropSample has to be in \[0, 1\), got 1.0'),
    ]:
        with pytest.raises(ValueError, match=message):
            transform(folder, **settings)
