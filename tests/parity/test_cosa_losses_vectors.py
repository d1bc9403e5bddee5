"""Losses of CoSA against the official implementation."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from vectors import close, load, planes, tensor, vectors

from mmwsss.evaluation.confusion import average_precision_per_image
from mmwsss.models.losses import (
    balanced_cross_entropy,
    boxes_to_regions,
    cam_mask_loss,
    confident_argmax,
    dense_energy_loss,
    soft_cross_entropy,
)
from mmwsss.models.losses.dense_energy import filter_exactly
from mmwsss.refiners import PermutohedralLattice
from mmwsss.refiners.dense_crf import bilateral_features
from mmwsss.registry import MODELS

WRAP_CONFIDENCE = 0.5  # not in the file
FILTER_SIGMAS = dict(xy=50, rgb=15)  # not in the file
SWITCHES = {
    'norelu': dict(rectify=False),
    'detach': dict(detach_range=True),
    'bgmean': dict(background='mean'),
}


def check(data: dict[str, np.ndarray], key: str, loss: Tensor, inputs: Tensor, gradient: str) -> None:
    """Compare a loss and, where it is stored, its gradient."""
    close(loss, data[key], rtol=1e-5, atol=1e-9)
    if gradient in data:
        close(torch.autograd.grad(loss, inputs)[0], data[gradient], rtol=1e-4, atol=1e-8)


@vectors('cosa', 'loss_c2s*.npz')
def test_cross_entropies_of_pixels(path: Path) -> None:
    data = load(path)
    weight, soft = tensor(data['weight']), tensor(data['soft'])
    cases = [match for match in (re.fullmatch(r'(seg\w*?loss(?:v2)?)(?:_(\w+))?', key) for key in data) if match]
    cases = [match for match in cases if not match[0].endswith('_grad')]
    assert cases
    for case in cases:
        seg = tensor(data['seg']).requires_grad_()
        name, variant = case[1], case[2] or ''
        share = re.fullmatch(r'a(\d+)', variant)
        fg_weight = int(share[1]) / 100 if share else 0.5
        mask = tensor(data[f'label_{variant}' if variant and not share else 'label']).long()
        if name == 'segsoftloss':
            loss = soft_cross_entropy(seg, soft, fg_weight)
        elif name == 'segweightloss':
            loss = balanced_cross_entropy(seg, mask, fg_weight, weight)
        else:
            loss = balanced_cross_entropy(seg, mask, None if name == 'seglossv2' else fg_weight)
        check(data, case[0], loss, seg, f'{case[0]}_grad')


@vectors('cosa', 'loss_c2s*.npz')
def test_module_shares_one_log_softmax(path: Path) -> None:
    data = load(path)
    loss = MODELS.build(dict(type='BalancedCELoss'))
    seg = tensor(data['seg']).requires_grad_()
    logs = seg.log_softmax(dim=1)
    check(data, 'segloss_a50', loss(logs, tensor(data['label']).long()), seg, 'segloss_a50_grad')
    logs = seg.log_softmax(dim=1)
    weighted = loss(logs, tensor(data['label']).long(), tensor(data['weight']))
    check(data, 'segweightloss', weighted, seg, 'segweightloss_grad')


@vectors('cosa', 'loss_s2c*.npz')
def test_segmentation_supervises_maps(path: Path) -> None:
    data = load(path)
    probabilities, hard = tensor(data['seg_ps']), tensor(data['hard']).long()
    cases = [key.removesuffix('_loss') for key in data if key.endswith('_loss')]
    assert cases
    for case in cases:
        cam = tensor(data['cam']).requires_grad_()
        version, *names = case.split('_')
        switches = {key: value for name in names for key, value in SWITCHES[name].items()}
        if version == 'v3':
            loss = cam_mask_loss(cam, hard, **switches)
        else:
            settings = dict(version=version.removesuffix('wrap'), confidence=WRAP_CONFIDENCE, **switches)
            module = MODELS.build(dict(type='SegToCAMLoss', **settings))
            assert module.needs_full_size == (version == 'v3wrap')
            loss = module(cam, probabilities)
        check(data, f'{case}_loss', loss, cam, f'{case}_grad')


@vectors('cosa', 'loss_s2c*.npz')
def test_wrapped_version_is_the_mask_version_of_confident_pixels(path: Path) -> None:
    data = load(path)
    mask = confident_argmax(tensor(data['seg_ps']), WRAP_CONFIDENCE)
    cam = tensor(data['cam']).requires_grad_()
    check(data, 'v3wrap_loss', cam_mask_loss(cam, mask), cam, 'v3wrap_grad')


@vectors('cosa', 'loss_cls*.npz')
def test_classification(path: Path) -> None:
    data = load(path)
    logits, labels = tensor(data['logits']).requires_grad_(), tensor(data['cls_label'])
    loss = MODELS.build(dict(type='MultiLabelSoftMarginLoss'))(logits, labels)
    close(loss, data['loss'], rtol=1e-5)
    close(torch.autograd.grad(loss, logits)[0], data['grad'], rtol=1e-5, atol=1e-9)
    close(average_precision_per_image(logits.detach().sigmoid(), labels), data['ap_per_image'], rtol=1e-5)


def energy_inputs(data: dict[str, np.ndarray]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits with a gradient, images, mask and regions."""
    images, mask = planes(data['img_u8']).float(), tensor(data['label']).long()
    regions = boxes_to_regions(tensor(data['img_box']), mask.shape[-2:])
    return tensor(data['logit']).requires_grad_(), images, mask, regions


@vectors('cosa', 'loss_energy*.npz')
def test_energy_on_a_lattice(path: Path) -> None:
    data = load(path)
    cases = [key.removesuffix('_cfg') for key in data if key.endswith('_cfg')]
    assert cases
    for case in cases:
        factor, rgb, xy, scale = data[f'{case}_cfg'].tolist()
        settings = dict(factor=factor, sigma_rgb=rgb, sigma_xy=xy, scale=scale)
        module = MODELS.build(dict(type='DenseEnergyLoss', **settings))
        logits, *others = energy_inputs(data)
        loss = module(logits.softmax(dim=1), *others)
        close(loss, data[f'{case}_loss'], rtol=1e-3)
        (gradient,) = torch.autograd.grad(loss, logits)
        expected = data[f'{case}_grad']
        close(gradient, expected, rtol=2e-3, atol=1e-3 * np.abs(expected).max())


@vectors('cosa', 'loss_energy*.npz')
def test_exact_energy_is_about_proportional(path: Path) -> None:
    data = load(path)
    _, rgb, xy, scale = data['default_cfg'].tolist()
    gradients = []
    for name in ('lattice', 'exact'):
        logits, *others = energy_inputs(data)
        loss = dense_energy_loss(logits.softmax(dim=1), *others, rgb, xy, scale, name)
        assert loss.item() < 0
        gradients.append(torch.autograd.grad(loss, logits)[0].flatten())
    assert torch.corrcoef(torch.stack(gradients))[0, 1] > 0.9


@vectors('cosa', 'loss_energy*.npz')
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_exact_filter_is_correlated_with_the_official_one(path: Path, dtype: str) -> None:
    data = load(path)
    features = bilateral_features(tensor(data['filt_img']), **FILTER_SIGMAS)
    values = tensor(data['filt_in']).flatten(2).transpose(1, 2).to(getattr(torch, dtype))
    exact = filter_exactly(features, values)
    assert exact.dtype == values.dtype
    expected = tensor(data['filt_out']).flatten(2).transpose(1, 2)
    assert torch.corrcoef(torch.stack((exact.flatten().float(), expected.flatten())))[0, 1] > 0.9
    assert 0.3 < (expected.sum() / exact.sum()).item() < 0.9
    close(PermutohedralLattice(features).filter(values), expected, atol=1e-3, rtol=1e-3)
