"""The networks of PMM, their maps and losses, against arrays written by the official code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from unittest import mock

import pytest
import torch
from mmseg.structures import SegDataSample
from official import assert_relative, official_weights
from torch import Tensor, nn
from vectors import close, load, tensor, vectors

from mmwsss.models.backbones.resnet38d import PreActBlock, PreActBottleneck
from mmwsss.models.backbones.scalenet import ScaleBlock
from mmwsss.models.backbones.scalenet_structures import STRUCTURES
from mmwsss.models.heads.seam_head import exclusive_foreground, pixel_correlation
from mmwsss.models.losses import UnderFittingCrossEntropyLoss, min_pooling_loss, rectified_min_max
from mmwsss.models.segmentors.seam import image_logits
from mmwsss.registry import MODELS

BLOCK_DILATIONS = dict(res_dilated=2, bot_dilated=4)  # as in b5 and b6; the first convolution of b5 has none
CLS_LOSS = dict(type='MultiLabelSoftMarginLoss')


class Tapped(nn.Module):
    """Stand-in backbone whose features are given."""

    def __init__(self, features: tuple[Tensor, ...] = ()) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.features


def seam(weights: dict[str, Tensor], backbone: dict, **settings) -> dict:
    """Config of a SEAM whose head has weights of these shapes."""
    last, first, second = (weights[f'{name}.weight'] for name in ('fc8', 'f8_3', 'f8_4'))
    head = dict(type='SEAMHead', in_channels=[w.shape[1] for w in (first, second, last)], num_classes=len(last))
    return dict(type='SEAM', backbone=backbone, head=head, loss_cls=CLS_LOSS, second_scale=None, **settings)


@vectors('pmm', 'wideres_blocks.npz')
@pytest.mark.parametrize('case', ['res_identity', 'res_stride', 'res_dilated', 'bot_dilated'])
def test_wide_resnet_blocks(path: Path, case: str) -> None:
    data = load(path)
    images, expected = tensor(data[f'{case}/x']), data[f'{case}/y']
    weights = official_weights(data, f'{case}/w/')
    dilation = BLOCK_DILATIONS.get(case, 1)
    if case.startswith('bot'):
        block = PreActBottleneck(images.shape[1], expected.shape[1], dilation, 0.3)
    else:
        inner, stride = len(weights['conv_branch2a.weight']), round(images.shape[-1] / expected.shape[-1])
        block = PreActBlock(images.shape[1], inner, expected.shape[1], stride, dilation=dilation)
    block.load_state_dict(weights)
    out, active = block.eval()(images)
    assert_relative(out, expected, 1e-5)
    assert_relative(active, data[f'{case}/x_bn_relu'], 1e-5)


@vectors('pmm', 'scalenet_blocks.npz')
def test_scale_blocks(path: Path) -> None:
    data = load(path)
    cases = sorted({key.split('/')[0] for key in data})
    assert len(cases) == 4
    for case in cases:
        arguments = data[f'{case}/args_inplanes_planes_stride_downsample_dilation'].tolist()
        in_channels, channels, stride, downsample, dilation = arguments
        structure = data[f'{case}/structure'].tolist()
        block = ScaleBlock(
            in_channels, channels, structure, stride, bool(downsample), dilation, official_small_pool=True
        )
        block.load_state_dict(official_weights(data, f'{case}/w/'))
        block.eval()
        images = [key for key in data if re.fullmatch(rf'{case}/x\d', key)]
        assert len(images) == 4
        for key in images:
            assert_relative(block(tensor(data[key])), data[key.replace('/x', '/y')], 1e-5)


@vectors('pmm', 'scalenet_structures.json')
def test_structures(path: Path) -> None:
    official = json.loads(path.read_text())
    assert official.keys() == STRUCTURES.keys()
    for name, (depths, rows) in STRUCTURES.items():
        assert [list(row) for row in rows] == official[name]
        assert sum(depths) == len(rows)


@vectors('pmm', 'seam_head.npz')
def test_head(path: Path) -> None:
    data = load(path)
    weights, images = official_weights(data), tensor(data['x'])
    features = tuple(tensor(data[f'conv{i}']) for i in (4, 5, 6))
    model = MODELS.build(seam(weights, dict(type=Tapped, features=features), in_index=(0, 1, 2))).eval()
    model.head.load_state_dict(weights)
    assert model.num_classes == data['num_cls']
    cam, refined = model.maps_of(images)
    assert_relative(cam, data['cam'], 1e-5)
    assert_relative(refined, data['cam_rv'], 1e-5)
    stacked = tensor(data['pcm_feature_in'])  # the official function starts with the last convolution
    assert_relative(model.head.similarity_features(images, *features[:2]), model.head.f9(stacked).detach(), 1e-5)
    correlated = pixel_correlation(model.head.f9(stacked), tensor(data['pcm_cam_in']))
    assert_relative(correlated, data['pcm_out'], 1e-5)


@vectors('pmm', 'seam_helpers.npz')
def test_normalisations(path: Path) -> None:
    data = load(path)
    maps = tensor(data['x'])
    close(rectified_min_max(maps), data['max_norm'], atol=1e-6)
    close(exclusive_foreground(maps), data['max_onehot'], atol=1e-6)
    everything = torch.ones(maps.shape[:2])
    close(min_pooling_loss(maps, everything), data['adaptive_min_pooling_loss'], atol=1e-6)


@vectors('pmm', 'seam_losses_*.npz')
def test_losses_of_a_training_step(path: Path) -> None:
    data = load(path)
    names = ('cam1', 'cam2', 'cam_rv1', 'cam_rv2')
    maps = {name: tensor(data[name]).requires_grad_() for name in names}
    settings = dict(
        second_scale=data['scale_factor'].item(),
        loss_min_pool=dict(type='MinPoolingLoss'),
        loss_equivariance=dict(type='EquivariantRegularization'),
    )
    head = dict(type='SEAMHead', in_channels=(1, 1, 1), num_classes=data['num_cls'].item())
    model = MODELS.build(dict(type='SEAM', backbone=dict(type=Tapped), head=head, loss_cls=CLS_LOSS, **settings))
    labels = tensor(data['label']).float()
    samples = [SegDataSample() for _ in labels]
    for sample, row in zip(samples, labels):
        sample.image_labels = row
    views = [(maps[f'cam{i}'], maps[f'cam_rv{i}']) for i in (1, 2)]
    images = torch.zeros(len(labels), 3, *data['cam1'].shape[-2:])
    with mock.patch.object(model, 'coarse_maps', side_effect=views) as coarse_maps:
        losses = model.loss(images, samples)
    second = coarse_maps.call_args_list[1].args[0]
    assert tuple(second.shape[-2:]) == tuple(data['size_of_second_view'][-2:])

    close(losses['loss_er'], data['loss_er'], atol=1e-6)
    close(losses['loss_ecr'], data['loss_ecr'], atol=1e-6)
    close(losses['loss_cls'] + losses['loss_min'], data['loss_cls'], atol=1e-6)
    for i in (1, 2):
        close(model.loss_min_pool(maps[f'cam_rv{i}'][:, 1:], labels), data[f'min_pool_{i}'], atol=1e-6)
        close(model.loss_cls(image_logits(maps[f'cam{i}']), labels), data[f'soft_margin_{i}'], atol=1e-6)
    total = sum(losses.values())
    close(total, data['loss'], atol=1e-6)
    total.backward()
    for name in names:
        close(maps[name].grad, data[f'grad_{name}'], atol=1e-8)


@vectors('pmm', 'puf_loss.npz')
def test_pretended_under_fitting(path: Path) -> None:
    data = load(path)
    target = tensor(data['target'])
    found = 0
    for key, expected in data.items():
        if key.count('/') != 4:
            continue
        level, form, beta, k, weight = key.split('/')
        logits = tensor(data[f'{level}/logits']).requires_grad_()
        loss = UnderFittingCrossEntropyLoss(form, float(beta), float(k), loss_weight=float(weight))(logits, target)
        close(loss, expected, atol=1e-6)
        if f'{key}/grad' in data:
            loss.backward()
            close(logits.grad, data[f'{key}/grad'], atol=1e-8)
        found += 1
    assert found == 3 * 4 * 4 * 2
    pixels = tensor(data['pixel_weight'])
    for level in ('low', 'mid', 'high'):
        logits = tensor(data[f'{level}/logits'])
        close(UnderFittingCrossEntropyLoss('none')(logits, target), data[f'{level}/mean_ce_over_all_pixels'], atol=1e-6)
        close(UnderFittingCrossEntropyLoss()(logits, target, pixels), data[f'{level}/clamp_weighted'], atol=1e-6)
