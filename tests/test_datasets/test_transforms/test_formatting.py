"""Packing of one or two views with their labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate

from mmwsss.registry import MODELS, TRANSFORMS


def results_of(**extra) -> dict:
    image = np.arange(4 * 6 * 3, dtype=np.float32).reshape(4, 6, 3)
    return dict(img=image, img_path='a.jpg', ori_shape=(8, 12), img_shape=(4, 6), **extra)


def pack(**extra) -> dict:
    return TRANSFORMS.build(dict(type='PackWeakInputs')).transform(results_of(**extra))


def test_one_view() -> None:
    labels = np.array([1, 0, 1], dtype=np.float32)
    packed = pack(image_labels=labels, gt_seg_map=np.ones((4, 6), np.uint8), img_id='a')
    assert torch.equal(packed['inputs'], torch.from_numpy(results_of()['img']).permute(2, 0, 1))
    sample = packed['data_samples']
    assert torch.equal(sample.image_labels, torch.from_numpy(labels))
    assert sample.image_labels.dtype == torch.float32
    assert sample.gt_sem_seg.data.shape == (1, 4, 6)
    assert sample.gt_sem_seg.data.dtype == torch.int64
    assert (sample.img_path, sample.ori_shape, sample.img_id) == ('a.jpg', (8, 12), 'a')
    assert 'background_label' not in sample
    assert 'record_1' not in sample


def test_absent_labels_stay_absent() -> None:
    sample = pack()['data_samples']
    assert 'image_labels' not in sample
    assert 'gt_sem_seg' not in sample


def test_two_views_pass_through_the_loader_and_the_preprocessor() -> None:
    second = np.random.default_rng(0).random((2, 2, 3)).astype(np.float32)
    records = dict(record_1=np.arange(9, dtype=np.float32), record_2=np.ones(9, np.float32))
    packed = pack(img_2=second, image_labels=np.ones(2), background_label=np.float32(0), **records)
    assert set(packed['inputs']) == {'view_1', 'view_2'}
    assert torch.equal(packed['inputs']['view_2'], torch.from_numpy(second).permute(2, 0, 1))
    sample = packed['data_samples']
    np.testing.assert_array_equal(sample.metainfo['record_1'], records['record_1'])
    assert sample.background_label.item() == 0
    batch = MODELS.build(dict(type='WeakSegDataPreProcessor'))(pseudo_collate([packed, packed]))
    assert batch['inputs']['view_1'].shape == (2, 3, 4, 6)
    assert batch['inputs']['view_2'].shape == (2, 3, 2, 2)
    assert torch.equal(batch['data_samples'][1].image_labels, torch.ones(2))


def test_count_of_present_classes_is_a_plain_int() -> None:
    sample = pack(image_labels=np.array([1, 0, 1, 1], dtype=np.float32))['data_samples']
    assert sample.metainfo['num_present'] == 3
    assert type(sample.metainfo['num_present']) is int
    assert pack(image_labels=np.zeros(4, np.float32))['data_samples'].metainfo['num_present'] == 0
    assert 'num_present' not in pack()['data_samples'].metainfo


def test_box_of_a_padded_crop_is_kept_where_there_is_one() -> None:
    step = TRANSFORMS.build(dict(type='RandomPadCrop', size=8))
    results = step.transform(results_of())
    sample = TRANSFORMS.build(dict(type='PackWeakInputs')).transform(results)['data_samples']
    np.testing.assert_array_equal(sample.metainfo['img_box'], results['img_box'])
    top, bottom, left, right = sample.img_box
    assert (bottom - top, right - left) == (4, 6)
    assert 'img_box' not in pack()['data_samples'].metainfo


def test_a_training_pipeline_of_two_strengths() -> None:
    steps = [
        dict(type='RandomRatioScale'),
        dict(type='RandomFlip', prob=1.0),
        dict(type='RandomPadCrop', size=16),
        dict(type='PILGaussianBlur'),
        dict(type='OneOfStrongAug', operations=('solarize',)),
        dict(type='PackWeakInputs'),
    ]
    results = results_of(gt_seg_map=np.ones((4, 6), np.uint8), seg_fields=['gt_seg_map'])
    results['img'] = results['img'].astype(np.uint8)
    for step in steps:
        results = TRANSFORMS.build(step).transform(results)
    weak, strong = results['inputs']['view_1'], results['inputs']['view_2']
    assert weak.shape == strong.shape == (3, 16, 16)
    assert weak.dtype == strong.dtype == torch.uint8
    sample = results['data_samples']
    top, bottom, left, right = sample.img_box
    mask = sample.gt_sem_seg.data[0]
    assert (mask[top:bottom, left:right] == 1).all()
    assert (mask == 255).sum() == mask.numel() - (bottom - top) * (right - left)
    assert sample.flip


def test_a_flip_after_the_box_is_refused() -> None:
    steps = [dict(type='RandomPadCrop', size=16), dict(type='RandomFlip', prob=1.0), dict(type='PackWeakInputs')]
    results = results_of()
    results['img'] = results['img'].astype(np.uint8)
    for step in steps[:2]:
        results = TRANSFORMS.build(step).transform(results)
    with pytest.raises(ValueError, match=r'flipped after RandomPadCrop.*put the flip before'):
        TRANSFORMS.build(steps[2]).transform(results)
