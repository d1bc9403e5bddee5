"""Inference on several scales, flips and crops, against arrays written by the official codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from vectors import close, load, tensor, vectors

from mmwsss.pseudo_labels.multi_crop import crop_views, multi_crop_boxes, multi_crop_maps
from mmwsss.pseudo_labels.views import FusionRule, multi_view
from mmwsss.refiners import DenseCRF

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
COSA_CELL, PMM_CELL = 16, 4  # average pooling of the stand-in networks
PMM_EPS, HEAT_POWER = 1e-5, 24


def normalize(images: Tensor) -> Tensor:
    return (images.float() / 255 - MEAN) / STD


def image_of(array: np.ndarray) -> Tensor:
    """(..., H, W, 3) as (..., 3, H, W)."""
    return tensor(np.moveaxis(array, -1, -3))


def min_max(maps: Tensor, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    maps = maps - maps.amin(dims, keepdim=True)
    return maps / (maps.amax(dims, keepdim=True) + 1e-5)


def cosa_network(data: dict[str, np.ndarray]):
    def network(images: Tensor) -> dict[str, Tensor]:
        features = F.avg_pool2d(images, COSA_CELL)
        maps = {name: F.conv2d(features, tensor(data[f'w_{name}'])[:, :, None, None]) for name in ('cam', 'aux', 'seg')}
        return {**maps, 'cls': maps['cam'].amax((2, 3)), 'cls_aux': maps['aux'].amax((2, 3))}

    return network


@vectors('cosa', 'msc_camseg*.npz')
@pytest.mark.parametrize('max_batch', [None, 1])
def test_cosa_scales_and_flips(path: Path, max_batch: int | None) -> None:
    data = load(path)
    images, network = normalize(image_of(data['img_u8'])), cosa_network(data)
    train, evaluation = data['scales_train'].tolist(), data['scales_eval'].tolist()
    rules = dict(cam=FusionRule('max', 'sum', 'after'), aux=FusionRule('max', 'last', 'after'))
    rules['seg'] = rules['cls'] = rules['cls_aux'] = FusionRule('sum', 'sum')

    fused = multi_view(network, images, train, rules, max_batch=max_batch)
    assert_maps(data, 'train', fused)
    close(fused['seg'], data['seg_only_sum'], atol=1e-5, rtol=1e-4)
    present = tensor(data['cls_label'])[:, :, None, None]
    for name in ('cam', 'aux'):  # one minimum and maximum over the whole batch
        close(min_max(fused[name] * present, (0, 1, 2, 3)), data[f'v4_{name}'], atol=1e-5, rtol=1e-4)
    close(fused['seg'], data['v4_seg'], atol=1e-5, rtol=1e-4)

    fused = multi_view(network, images[: len(data['eval_seg'])], evaluation, rules, max_batch=max_batch)
    assert_maps(data, 'eval', fused)
    for name in ('cls', 'cls_aux'):
        close(fused[name], data[f'eval_{name}'], atol=1e-5, rtol=1e-4)

    rules = dict(cam=FusionRule('sum', 'max', 'after'), aux=FusionRule('sum', 'last', 'after'))
    assert_maps(data, 'v2', multi_view(network, images, train, {**rules, 'seg': FusionRule('max', 'max')}))


def assert_maps(data: dict[str, np.ndarray], case: str, fused: dict[str, Tensor]) -> None:
    for name in ('cam', 'aux'):
        close(min_max(fused[name]), data[f'{case}_{name}'], atol=1e-5, rtol=1e-4)
    close(fused['seg'], data[f'{case}_seg'], atol=1e-5, rtol=1e-4)


def pmm_network(data: dict[str, np.ndarray], images: Tensor) -> Tensor:
    weight, bias = tensor(data['toy_weight'])[:, :, None, None], tensor(data['toy_bias'])
    maps = F.conv2d(F.avg_pool2d(images, PMM_CELL), weight, bias).relu()
    return F.interpolate(maps, size=images.shape[-2:], mode='bilinear', align_corners=True)


def cut_and_scale(maps: Tensor, shift: float) -> Tensor:
    """Values at the minimum to 0, the rest to at most 1, map by map."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (torch.where(maps < low + PMM_EPS, 0, maps) - low - shift) / (high - low + PMM_EPS)


def rescale_bicubic(images: Tensor, scale: float) -> Tensor:
    """Pillow's bicubic resizing of one uint8 image, then the normalisation."""
    picture = Image.fromarray(images[0].permute(1, 2, 0).numpy())
    picture = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.BICUBIC)
    return normalize(image_of(np.array(picture)))[None]


@vectors('pmm', 'infer_multi_scale*.npz')
def test_pmm_multi_scale(path: Path) -> None:
    data = load(path)
    image = image_of(data['image_rgb'])[None]
    maps = multi_view(
        lambda images: pmm_network(data, images),
        image,
        data['scales'].tolist(),
        FusionRule('sum', 'sum'),
        rescale=rescale_bicubic,
    )[0, 1:]
    assert np.flatnonzero(data['label']).tolist() == data['classes'].tolist()
    maps = cut_and_scale(maps[data['classes'].tolist()], PMM_EPS)
    close(maps, data['cams'], atol=1e-4)

    background = (1 - maps.amax(0, keepdim=True)) ** HEAT_POWER
    crf = DenseCRF(
        iterations=10,
        gaussian_weight=3,
        gaussian_xy=3,
        bilateral_weight=10,
        bilateral_xy=80,
        bilateral_rgb=13,
    )
    heat = crf(image, torch.cat((background, maps))[None])[0]
    assert data['heat_keys'].tolist() == [0, *(data['classes'] + 1)]
    expected = tensor(data['heat_crf_alpha24'])
    close(heat, expected, atol=1e-3)
    assert (heat.argmax(0) == expected.argmax(0)).float().mean() >= 0.95


@vectors('pmm', 'infer_multi_crop*.npz')
@pytest.mark.parametrize('max_batch', [1, 64])
def test_pmm_multi_crop(path: Path, max_batch: int) -> None:
    data = load(path)
    image, size = image_of(data['image_rgb']), int(data['crop_size'])
    boxes, _ = multi_crop_boxes(tuple(image.shape[1:]), data['scales'].tolist(), size, int(data['stride']))
    top, bottom, left, right = boxes.T
    as_stored = torch.stack((left, top, right - left, bottom - top), dim=1).repeat_interleave(2, dim=0)
    assert as_stored.tolist() == data['boxes_xywh_flip_pairs'].tolist()

    crops = normalize(crop_views(image, boxes, size))
    corner = data['first_crop_corner'].shape[-1]
    close(crops[0, :, :corner, :corner], data['first_crop_corner'], atol=1e-5)
    corner = data['last_crop_flipped_corner'].shape[-1]
    close(crops[-1].flip(-1)[:, -corner:, :corner], data['last_crop_flipped_corner'], atol=1e-5)
    close(crops.mean((1, 2, 3)).repeat_interleave(2), data['crop_means'], atol=1e-5)

    maps = multi_crop_maps(
        lambda batch: pmm_network(data, normalize(batch)),
        image,
        boxes,
        size,
        labels=tensor(data['label']),
        max_batch=max_batch,
    )
    present = np.flatnonzero(data['label'])
    assert present.tolist() == data['classes'].tolist()
    assert not maps[1:][(data['label'] == 0).nonzero()].any()
    close(cut_and_scale(maps[present + 1], 0).half().float(), data['cams_float16'].astype(np.float32), atol=1e-3)


@vectors('pmm', 'multi_crop_sampler*.npz')
def test_pmm_boxes(path: Path) -> None:
    """The boxes only; the labels of crops belong to the training of PMM."""
    data = load(path)
    width, height = data['image_size_wh'].tolist()
    boxes, counts = multi_crop_boxes(
        (height, width), data['scales'].tolist(), int(data['crop_size']), int(data['stride'])
    )
    assert counts == data['boxes_per_scale'].tolist()
    assert boxes[:, [2, 0, 3, 1]].tolist() == data['boxes_x1y1x2y2'].tolist()
