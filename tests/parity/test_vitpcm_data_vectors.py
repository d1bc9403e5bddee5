"""Views and preprocessing of ViT-PCM against the official implementation; settings are read from the vectors."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from vectors import close, load, planes, tensor, vectors

from mmwsss.datasets.transforms.color import adjust_contrast, adjust_hue, adjust_saturation, to_gray
from mmwsss.datasets.transforms.labels import ImageLabelsFromMask, labels_in_mask
from mmwsss.datasets.transforms.resize import ResizeAlignCorners
from mmwsss.datasets.transforms.views import replay_record, replay_record_on_mask, sample_crop_box
from mmwsss.evaluation.confusion import confusion_matrix
from mmwsss.models.data_preprocessor import WeakSegDataPreProcessor
from mmwsss.ops import (
    apply_record,
    patch_level_records,
    resize_align_corners,
    resize_mirror,
    resize_nearest_align_corners,
    tile_views,
    undo_flips,
    untile_views,
)


@vectors('vitpcm', '05_*.npz')
def test_records(path: Path) -> None:
    data = load(path)
    # The records stand in groups: no crop and no resize, crop and resize, resize only; and rectangles replay the first.
    groups = np.split(data['affine'], np.cumsum([len(data[f'{name}_out']) for name in ('none', 'crop', 'resize')])[:-1])
    for name, records in zip(('none', 'crop', 'resize'), groups):
        images = planes(data['image']).expand(len(records), -1, -1, -1)
        out = apply_record(images, tensor(records))
        close(out, planes(data[f'{name}_out']), atol=1e-3)
        close(undo_flips(out, tensor(records)), planes(data[f'{name}_rev']), atol=1e-3)
    flat = groups[0]
    for name, chosen in (('notranspose', flat[flat[:, 2] == 0]), ('transpose', flat[flat[:, 2] == 1])):
        images = planes(data['rect_image']).expand(len(chosen), -1, -1, -1)
        close(apply_record(images, tensor(chosen)), planes(data[f'rect_out_{name}']), atol=1e-3)


@vectors('vitpcm', '06_*.npz')
def test_records_at_patch_level(path: Path) -> None:
    data = load(path)
    patch_1, patch_2 = (patch_level_records(tensor(data[f'affine{i}']), int(data['patch'])) for i in (1, 2))
    close(patch_1, data['affine1_patch'])
    close(patch_2, data['affine2_patch'])
    reverted = undo_flips(planes(data['z']), patch_1)
    close(reverted, planes(data['reverted']), atol=1e-5)
    close(apply_record(reverted, patch_2), planes(data['out']), atol=1e-5)


@vectors('vitpcm', '07_*.npz')
def test_mosaic(path: Path) -> None:
    data = load(path)
    grid = data['mosaic'].shape[1] // data['tiles'].shape[1]
    mosaic = tile_views(planes(data['tiles']), grid)
    close(mosaic, planes(data['mosaic']))
    close(untile_views(mosaic, grid), planes(data['tiles_back']))


@vectors('vitpcm', '09_*.npz')
def test_crop_origins(path: Path) -> None:
    data = load(path)
    starts, first = data['start_values'], data['first_50'].reshape(-1, 4)
    crop, grid = int((first[:, 2] - first[:, 0]).max()), int(starts[1] - starts[0])
    # The image side follows from how often the last origin occurs: every later draw is clamped to it.
    draws = round(1 / data['expected_freq'][0])
    size = (draws - 1) * grid
    assert size - crop == starts[-1]
    np.random.seed(0)
    boxes = np.stack([sample_crop_box((size, size), crop, grid) for _ in range(6000)])
    assert (boxes[:, 2:] - boxes[:, :2] == crop).all()
    frequency = np.array([(boxes[:, :2] == start).mean() for start in starts])
    assert np.abs(frequency - data['expected_freq']).max() < 0.02
    assert np.abs(frequency - data['start_freq']).max() < 0.03


@vectors('vitpcm', '10_*.npz')
def test_color(path: Path) -> None:
    data = load(path)
    image = data.pop('image')
    assert data
    for key, expected in data.items():
        if match := re.fullmatch(r'cont([\d.]+)_sat([\d.]+)_gray([01])', key):
            contrast, saturation, gray = map(float, match.groups())
            out = adjust_saturation(adjust_contrast(image, np.float32(contrast)), np.float32(saturation))
            out = to_gray(out) if gray else out
        else:
            kind, amount = re.fullmatch(r'tf_(hue|brightness)([+-][\d.]+)', key).groups()
            out = adjust_hue(image, np.float32(amount)) if kind == 'hue' else image + np.float32(amount)
        close(tensor(out), expected, atol=5e-2)


@vectors('vitpcm', '11_*.npz')
def test_resize(path: Path) -> None:
    data = load(path)
    image, mask = planes(data['f'])[None], tensor(data['i'][..., 0])
    close(image[0] / 255, planes(data['f_div255']), atol=1e-6)
    seen = set()
    for key, expected in data.items():
        if not (match := re.fullmatch(r'(tf_float|tf_int|np_float)_(\d+)x(\d+)', key)):
            continue
        kind, size = match.group(1), (int(match.group(2)), int(match.group(3)))
        seen.add(kind)
        if kind == 'tf_float':
            close(resize_align_corners(image, size)[0], planes(expected), atol=1e-3)
        elif kind == 'tf_int':
            close(resize_nearest_align_corners(mask, size), expected[..., 0])
        else:
            close(resize_mirror(planes(data['f_div255']), size), planes(expected), atol=1e-5)
    assert seen == {'tf_float', 'tf_int', 'np_float'}


@vectors('vitpcm', '12_*.npz')
def test_labels(path: Path) -> None:
    data = load(path)
    num_classes = data['multihot'].shape[1]
    for mask, expected in zip(data['seg'][..., 0], data['multihot']):
        np.testing.assert_array_equal(labels_in_mask(mask, num_classes), expected)
    preprocess = WeakSegDataPreProcessor(mean=[127.5] * 3, std=[127.5] * 3)
    close(preprocess(dict(inputs=[planes(data['image'])]))['inputs'][0], planes(data['vit_image']), atol=1e-6)
    classes = int(max(data['ign_label_out'].max(), data['ign_pred'].max())) + 1
    counted = confusion_matrix(tensor(data['ign_pred']).long(), tensor(data['ign_label']).long(), classes, 255)
    expected = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(expected, (data['ign_label_out'], data['ign_pred_out']), 1)
    close(counted, expected)


@vectors('vitpcm', '13_*.npz')
def test_preprocessing(path: Path) -> None:
    data = load(path)
    size, num_classes = data['image'].shape[:2], len(data['class_label'])
    results = dict(img=data['image_u8'], gt_seg_map=data['seg_u8'][..., 0], seg_fields=['gt_seg_map'])
    results = ImageLabelsFromMask(num_classes).transform(ResizeAlignCorners(size).transform(results))
    preprocess = WeakSegDataPreProcessor(mean=[127.5] * 3, std=[127.5] * 3)
    close(preprocess(dict(inputs=[planes(results['img'])]))['inputs'][0], planes(data['image']), atol=1e-5)
    np.testing.assert_array_equal(results['gt_seg_map'], data['seg'][..., 0])
    labels = np.concatenate(([results['background_label']], results['image_labels']))
    np.testing.assert_array_equal(labels, data['class_label'])
    np.testing.assert_array_equal(labels, data['train_class_label'])

    np.testing.assert_array_equal(
        replay_record_on_mask(results['gt_seg_map'], data['train_affine']), data['train_seg'][..., 0]
    )
    assert replay_record(results['img'], data['train_affine']).shape == tuple(data['train_image_shape'])
    assert replay_record(results['img'], data['train_affine_et']).shape == tuple(data['train_image_et_shape'])


@vectors('vitpcm', '14_*.npz')
def test_view_geometry(path: Path) -> None:
    data = load(path)
    cases = [(r, i, m) for r, i, m in zip(data['affine'], data['image_out'], data['label_out'])]
    cases.append((data['branch1_affine'], data['branch1_image'], data['branch1_label']))
    for record, image, label in cases:
        close(tensor(replay_record(data['image'], record)), image, atol=1e-3)
        np.testing.assert_array_equal(replay_record_on_mask(data['label'][..., 0], record), label[..., 0])
