"""Map operations and pseudo masks of CoSA and PMM against the official implementations."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from vectors import close, load, planes, tensor, vectors

from mmwsss.ops import RESIZERS
from mmwsss.pseudo_labels import (
    clear_argmax,
    coefficient_of_variation,
    ignore_outside_boxes,
    label_probabilities,
    maps_to_mask,
    mask_absent_logits,
    min_max_normalize,
    proportional_mask,
    refine_two_labels,
    search_thresholds,
    smooth_variation,
    to_distribution,
    two_label_maps,
    two_threshold_mask,
)
from mmwsss.pseudo_labels.labeler import LabelState, PseudoLabeler
from mmwsss.pseudo_labels.normalize import keep_channels
from mmwsss.pseudo_labels.searched import fit_gaussian_mixture
from mmwsss.pseudo_labels.steps.decide import PROPORTIONAL_CRF
from mmwsss.pseudo_labels.two_thresholds import ignore_between, scores_to_banded_mask, softmax_against_threshold
from mmwsss.refiners import PAR, DenseCRF

EVALBOX_THRESHOLDS = (0.8, 0.2)  # not in the file


class IdentityCRF(DenseCRF):
    """Marginals of a CRF without kernels."""

    def __call__(self, images: Tensor, maps: Tensor, labels: Tensor | None = None) -> Tensor:
        return to_distribution(maps)


def share_equal(mask: Tensor, expected: np.ndarray) -> float:
    """Share of pixels on which two masks of one shape agree."""
    assert mask.shape == expected.shape
    return (mask == tensor(expected.astype(np.int64))).float().mean().item()


def absent_off(cam: Tensor, labels: Tensor) -> Tensor:
    return keep_channels(cam, labels > 0)


@vectors('cosa', 'label_ops*.npz')
def test_labels_from_cams_and_logits(path: Path) -> None:
    data = load(path)
    cam, labels, seg = (tensor(data[key]) for key in ('cam', 'cls_label', 'seg'))
    boxes = tensor(data['img_box'])
    background, high, low = (data[f'{name}_thre'].item() for name in ('bkg', 'high', 'low'))
    valid = absent_off(cam, labels)
    close(valid, data['valid_cam'])
    plain = maps_to_mask(valid, background, has_background=False)
    assert share_equal(plain, data['label_plain']) >= 0.999
    assert share_equal(maps_to_mask(cam, background, False), data['label_nocls']) >= 0.999
    assert share_equal(ignore_outside_boxes(plain, boxes), data['label_box']) >= 0.999
    banded = scores_to_banded_mask(valid.amax(dim=1), valid.argmax(dim=1) + 1, high, low)
    assert share_equal(ignore_outside_boxes(banded, boxes), data['label_box_mid']) >= 0.999

    close(mask_absent_logits(seg, labels), data['valid_seg'], rtol=1e-4, atol=1e-5)
    close(label_probabilities(seg, labels, 0.01), data['spl_t001'], rtol=1e-4, atol=1e-5)
    close(label_probabilities(seg, labels, 1.0), data['spl_t1'], rtol=1e-4, atol=1e-5)
    close(label_probabilities(seg, labels, 1.0, mask_after_softmax=True), data['spl_after_t1'], rtol=1e-4, atol=1e-5)
    for key in (key for key in data if key.startswith('seg_pseudo_g')):
        ratio = int(key.removeprefix('seg_pseudo_g')) / 10
        assert share_equal(clear_argmax(mask_absent_logits(seg, labels), ratio), data[key]) >= 0.999


@vectors('cosa', 'cam2mask*.npz')
def test_two_thresholds_with_ignore_band(path: Path) -> None:
    data = load(path)
    cam, labels, boxes = (tensor(data[key]) for key in ('cam', 'cls_label', 'img_box'))
    images = tensor(data['img_denorm']) * 255
    cam = absent_off(cam, labels)
    cases = [key.removesuffix('_thr') for key in data if key.endswith('_thr')]
    assert cases
    for case in cases:
        high, low = data[f'{case}_thr'].tolist()
        scale = re.search(r'ds(\d+)', case)
        refiner = PAR() if case.startswith('par') else None
        down_scale = int(scale[1]) if scale else 2
        mask = two_threshold_mask(cam, high, low, labels, down_scale, images, refiner)
        assert share_equal(ignore_outside_boxes(mask, boxes), data[f'{case}_mask']) >= 0.995, case
        steps = [dict(type='TwoThresholdMask', high=high, low=low, down_scale=down_scale, refiner=refiner)]
        state = LabelState(cam, False, tuple(cam.shape[-2:]), images, labels, boxes)
        chained = PseudoLabeler([*steps, dict(type='IgnoreOutsideBox')])(state)
        assert torch.equal(chained.mask, ignore_outside_boxes(mask, boxes)), case


@vectors('cosa', 'cam2mask*.npz')
def test_two_thresholds_at_evaluation_leave_out_the_last_row_and_column(path: Path) -> None:
    data = load(path)
    labels = tensor(data['cls_label'])
    mask = two_threshold_mask(absent_off(tensor(data['cam']), labels), *EVALBOX_THRESHOLDS, labels)
    boxes = torch.tensor([[0, -1, 0, -1]]).expand(len(mask), 4)
    mask = ignore_outside_boxes(mask, boxes)
    assert share_equal(mask, data['evalbox_mask']) >= 0.995
    assert (mask[:, -1] == 255).all()
    assert (mask[:, :, -1] == 255).all()


@vectors('cosa', 'cam2mask*.npz')
def test_softmaxed_maps_to_mask(path: Path) -> None:
    data = load(path)
    soft, keys = tensor(data['inner_soft']), tensor(data['inner_keys'])
    size = data['inner_nopar'].shape[-2:]
    for name, maps in (('nopar', soft), ('par', PAR()(tensor(data['inner_img']), soft))):
        mask = keys[RESIZERS['half_pixel'](maps, size).argmax(dim=1)]
        assert share_equal(mask, data[f'inner_{name}']) >= 0.995, name


@vectors('cosa', 'dynamic_threshold*.npz')
def test_searched_thresholds(path: Path) -> None:
    data = load(path)
    cases = [match for match in (re.fullmatch(r'q(\d+)_modal(\d)_f(\d+)', key) for key in data) if match]
    assert cases
    for case in cases:
        queue, components, floor = f'queue{case[1]}', int(case[2]), int(case[3]) / 100
        values = tensor(data[queue]).double()
        found = search_thresholds(values, components, floor)
        close(torch.stack(found), np.atleast_1d(data[case[0]]), atol=2e-3)
        values = values[values > floor]
        ends = torch.stack((values.min(), values.quantile(0.5), values.max()))
        mixture = fit_gaussian_mixture(values, ends if components == 3 else ends[::2])
        assert mixture.iterations == data[f'{case[0]}_n_iter']
        close(mixture.means, data[f'{case[0]}_means'], atol=1e-9)
        close(mixture.variances, data[f'{case[0]}_vars'], atol=1e-9)
        close(mixture.weights, data[f'{case[0]}_weights'], atol=1e-9)


@vectors('pmm', 'cvs_ppmg*.npz')
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_smoothing_and_proportional_masks(path: Path, dtype: str) -> None:
    data = load(path)
    power, threshold, scale = data['alpha'].item(), data['cam_thresh'].item(), data['cv_scale'].item()
    crf = DenseCRF(**{key: value for key, value in PROPORTIONAL_CRF.items() if key != 'type'}, channel_order='bgr')
    single = dtype == 'float32'
    for case in range(data['n_cases'].item()):
        maps = tensor(data[f'{case}/cams_float32'])[None].to(getattr(torch, dtype))
        images = planes(data[f'{case}/image_bgr'][..., ::-1])[None]
        expected = {key.split('/')[-1]: value for key, value in data.items() if key.startswith(f'{case}/{dtype}/')}
        classes = tensor(np.concatenate(([0], data[f'{case}/classes'] + 1)))

        variation = scale * coefficient_of_variation(maps, threshold).flatten()
        close(variation, expected['cv_scaled'], rtol=1e-5 if single else 1e-3)
        pairs = two_label_maps(smooth_variation(maps, threshold, scale), power)
        close(pairs[0], expected['bg_and_cvs_per_class'], atol=1e-5 if single else 2e-3)

        identity = refine_two_labels(images, pairs, IdentityCRF()) > 0.5
        mask = classes[proportional_mask(maps, identity)][0]
        assert share_equal(mask, expected['label_map_identity_crf']) >= (1 if single else 0.995)

        foreground = refine_two_labels(images, pairs, crf)
        official = tensor(expected['crf_per_class'])[:, 1]
        agreement = ((foreground[0] > 0.5) == (official > 0.5)).float().mean(dim=(1, 2))
        assert agreement.min() >= 0.995
        assert (foreground[0] - official).abs().mean() <= 1e-3
        mask = classes[proportional_mask(maps, foreground > 0.5)][0]
        assert share_equal(mask, expected['label_map']) >= (0.998 if single else 0.995)


@vectors('pmm', 'ppmg_worker*.npz')
def test_proportional_masks_file_to_file(path: Path, tmp_path: Path) -> None:
    data = load(path)
    cv2.imwrite(str(tmp_path / 'image.png'), np.ascontiguousarray(data['image_rgb'][..., ::-1]))
    np.save(tmp_path / 'maps.npy', data['cams'])
    maps = tensor(np.load(tmp_path / 'maps.npy'))[None]
    images = planes(cv2.cvtColor(cv2.imread(str(tmp_path / 'image.png')), cv2.COLOR_BGR2RGB))[None]
    step = dict(type='ProportionalMask', crf=dict(channel_order='bgr'), smoothing=dict())
    state = PseudoLabeler([step])(LabelState(maps, False, tuple(maps.shape[-2:]), images))
    classes = tensor(np.concatenate(([0], data['classes'] + 1)))
    cv2.imwrite(str(tmp_path / 'mask.png'), classes[state.mask[0]].numpy().astype(np.uint8))
    written = cv2.imread(str(tmp_path / 'mask.png'), cv2.IMREAD_UNCHANGED)
    assert share_equal(tensor(written).long(), data['png']) >= 0.998


@vectors('pmm', 'seam_helpers*.npz')
def test_max_norm_of_seam(path: Path) -> None:
    data = load(path)
    normalized = min_max_normalize(tensor(data['x']).relu(), eps=1e-5, shift=1e-5).relu()
    close(normalized, data['max_norm'], atol=1e-6)


@vectors('cosa', 'cam2mask*.npz')
def test_absent_classes_take_no_part_in_the_softmax(path: Path) -> None:
    data = load(path)
    cam, labels = tensor(data['cam']), tensor(data['cls_label'])
    high, low = data['ds0_thr'].tolist()
    present = torch.cat((torch.ones(len(labels), 1), labels), dim=1) > 0
    for image, keep in enumerate(present):
        soft = [softmax_against_threshold(cam, threshold, present)[image, keep] for threshold in (high, low)]
        alone = [
            torch.cat((torch.full_like(cam[image, :1], t), cam[image, keep[1:]])).softmax(dim=0) for t in (high, low)
        ]
        for actual, expected in zip(soft, alone):
            close(actual, expected, atol=1e-6)
        ids = keep.nonzero()[:, 0]
        mask = ignore_between(*(ids[maps.argmax(dim=0)] for maps in alone))
        assert torch.equal(two_threshold_mask(cam, high, low, labels, down_scale=0)[image], mask)
