"""Scores, and a whole evaluation with network, views, labels and CRF, against arrays written by the official codes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from vectors import close, load, tensor, vectors

from mmwsss.evaluation.confusion import (
    average_precision,
    confusion_matrix,
    iou_from_confusion,
    summary_from_confusion,
    sweep_confusion,
)
from mmwsss.models.backbones import TokenViT
from mmwsss.pseudo_labels import maps_to_mask
from mmwsss.pseudo_labels.views import FusionRule, half_pixel, multi_view
from mmwsss.refiners import DenseCRF

IGNORE = 255
MEAN = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
STD = torch.tensor([58.395, 57.12, 57.375])[:, None, None]
# What the official evaluation of CoSA sets and its file does not hold.
SCALES, THRESHOLD, PATCH, HEAD_WIDTH, AUX_LAYER, DILATION = (1, 0.5, 1.5, 0.75, 1.25), 0.5, 16, 16, -3, 5


def sweep_of_files(data: dict[str, np.ndarray], num_classes: int) -> Tensor:
    """Confusion matrices (S, C, C) of the stored class maps at every threshold."""
    total = 0
    for i in range(int(data['n_images'])):
        cams = tensor(data[f'cams_{i}'])
        maps = cams.new_zeros(num_classes - 1, *cams.shape[1:])
        maps[data[f'classes_{i}'].tolist()] = cams
        label = tensor(data[f'gt_{i}']).long()
        total += sweep_confusion(maps, label, data['thresholds'].tolist(), False, num_classes, IGNORE)
    return total


def confusion_of_files(data: dict[str, np.ndarray], num_classes: int) -> Tensor:
    return sum(
        confusion_matrix(tensor(data[f'png_{i}']).long(), tensor(data[f'gt_{i}']).long(), num_classes, IGNORE)
        for i in range(int(data['n_images']))
    )


@vectors('acr', 'evaluation*.npz')
def test_acr_curve_and_masks(path: Path) -> None:
    data = load(path)
    num_classes = data['per_class_iou'].shape[1]
    # The official mean counts a class that occurs nowhere as 0.
    iou, _ = iou_from_confusion(sweep_of_files(data, num_classes))
    close(100 * iou.nan_to_num(nan=0.0), data['per_class_iou'], atol=1e-6)
    close(100 * iou.nan_to_num(nan=0.0).mean(-1), data['miou_curve'], atol=1e-6)
    iou, _ = iou_from_confusion(confusion_of_files(data, num_classes))
    close(100 * iou.nan_to_num(nan=0.0), data['png_per_class_iou'], atol=1e-6)
    close(100 * iou.nan_to_num(nan=0.0).mean(), data['png_miou'], atol=1e-6)


@vectors('pmm', 'evaluation*.npz')
def test_pmm_drops_absent_classes_and_mmseg_does_not(path: Path) -> None:
    data = load(path)
    num_classes = int(data['num_cls'])
    curve = [summary_from_confusion(conf)['miou_present'] for conf in sweep_of_files(data, num_classes)]
    close(100 * torch.stack(curve), data['miou_curve'], rtol=1e-9)
    conf = confusion_of_files(data, num_classes)
    (iou, miou), summary = iou_from_confusion(conf), summary_from_confusion(conf)
    close(100 * summary['miou_present'], data['png_miou'], rtol=1e-9)
    per_class = torch.where(conf.sum(1) > 0, 100 * iou, -100)
    close(per_class, data['png_per_class_iou_minus100_if_absent'], rtol=1e-9)
    np.testing.assert_allclose(iou.numpy(), data['mmseg_iou'], rtol=1e-9)
    close(miou, data['mmseg_miou_nanmean'], rtol=1e-9)
    close(summary['pixel_accuracy'], data['mmseg_aacc'], rtol=1e-9)
    recall = conf.diagonal().double() / conf.sum(1)
    np.testing.assert_allclose(recall.numpy(), data['mmseg_acc'], rtol=1e-9)


@vectors('cosa', 'metrics*.npz')
@pytest.mark.parametrize(('kind', 'name'), [('pred', 'scores'), ('pseudo', 'pseudo')])
def test_cosa_metrics(path: Path, kind: str, name: str) -> None:
    data = load(path)
    num_classes, conf = int(data['num_classes']), 0
    for i in range(sum(key.startswith('gt') for key in data)):
        pred, label = tensor(data[f'{kind}{i}']).long(), tensor(data[f'gt{i}']).long()
        # The official score of pseudo masks leaves out the pixels that a mask ignores.
        label = torch.where(pred == IGNORE, IGNORE, label)
        conf += confusion_matrix(torch.where(pred == IGNORE, 0, pred), label, num_classes, IGNORE)
    iou, _ = iou_from_confusion(conf)
    summary = summary_from_confusion(conf)
    np.testing.assert_allclose(iou.numpy(), data[f'{name}_iou'], rtol=1e-9)
    for ours, theirs in (('miou_present', 'miou'), ('pixel_accuracy', 'pacc'), ('mean_accuracy', 'macc')):
        close(summary[ours], data[f'{name}_{theirs}'], rtol=1e-9)


class OfficialNetwork:
    """CoSA's network on its stored weights: our ViT, and convolutions without bias."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights
        encoder = {key.removeprefix('encoder.'): value for key, value in weights.items() if key.startswith('encoder.')}
        width = encoder['cls_token'].shape[-1]
        depth = len({key.split('.')[1] for key in encoder if key.startswith('blocks.')})
        grid = round((encoder['pos_embed'].shape[1] - 1) ** 0.5)
        self.vit = TokenViT(
            arch=dict(
                embed_dims=width,
                num_layers=depth,
                num_heads=width // HEAD_WIDTH,
                feedforward_channels=len(encoder['blocks.0.mlp.fc1.bias']),
            ),
            img_size=grid * PATCH,
            patch_size=PATCH,
            pos_interp='torch',
            out_indices=[depth + AUX_LAYER, depth - 1],
        ).eval()
        self.vit.load_state_dict({mmpretrain_name(key): value for key, value in encoder.items() if 'head' not in key})

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        aux, last = self.vit(images)
        seg = last
        for name in ('conv6', 'conv7'):
            seg = F.conv2d(seg, self.weights[f'decoder.{name}.weight'], padding=DILATION, dilation=DILATION).relu()
        outputs = {'seg': F.conv2d(seg, self.weights['decoder.conv8.weight'])}
        for suffix, features, key in (('', last, 'classifier'), ('_aux', aux, 'aux_classifier')):
            weight = self.weights[f'{key}.weight']
            outputs[f'cam{suffix}'] = F.conv2d(features, weight)
            outputs[f'cls{suffix}'] = F.conv2d(features.amax((2, 3), keepdim=True), weight)[..., 0, 0]
        return outputs


def mmpretrain_name(key: str) -> str:
    """Name of one weight of the official encoder in mmpretrain's ViT."""
    for old, new in (
        (r'^patch_embed\.proj', 'patch_embed.projection'),
        (r'^blocks', 'layers'),
        (r'\.norm([12])', r'.ln\1'),
        (r'^norm', 'ln1'),
        (r'\.mlp\.fc1', '.ffn.layers.0.0'),
        (r'\.mlp\.fc2', '.ffn.layers.1'),
    ):
        key = re.sub(old, new, key)
    return key


def evaluate_image(network: OfficialNetwork, image: Tensor, labels: Tensor, size: int) -> tuple[dict, dict]:
    """Masks (H, W) and image scores (1, K) by their official names."""
    rules = {'cam': FusionRule('max', 'sum', 'after'), 'cam_aux': FusionRule('max', 'last', 'after')}
    rules |= dict.fromkeys(('seg', 'cls', 'cls_aux'), FusionRule('sum', 'sum'))
    squashed = half_pixel(((image - MEAN) / STD)[None], (size, size))
    fused = multi_view(network, squashed, SCALES, rules)
    logits = half_pixel(fused['seg'], tuple(image.shape[1:]))
    allowed = torch.cat((torch.ones(1), labels))[None, :, None, None] > 0
    masked = torch.where(allowed, logits, -1e5)
    crf = DenseCRF(
        iterations=1,
        gaussian_weight=1,
        gaussian_xy=1,
        bilateral_weight=4,
        bilateral_xy=121,
        bilateral_rgb=5,
    )
    refined = crf(image[None], masked.softmax(1))
    masks = {name: maps.argmax(1)[0] for name, maps in zip(('seg_ps', 'seg_vd', 'seg_crf'), (logits, masked, refined))}
    for name in ('cam', 'cam_aux'):
        maps = fused[name] - fused[name].amin((2, 3), keepdim=True)
        maps = half_pixel(maps / (maps.amax((2, 3), keepdim=True) + 1e-5), tuple(image.shape[1:]))
        masks[name] = maps_to_mask(maps * labels[:, None, None], THRESHOLD, has_background=False)[0]
    return masks, {name: fused[name].sigmoid() for name in ('cls', 'cls_aux')}


@vectors('cosa', 'evaluate*.npz')
def test_cosa_evaluation(path: Path) -> None:
    data = load(path)
    network = OfficialNetwork({key[3:]: tensor(data[key]).float() for key in data if key.startswith('sd/')})
    names = ('seg_ps', 'seg_vd', 'seg_crf', 'cam', 'cam_aux')
    num_classes = len(data['seg_ps_iou'])
    confusions, scores, labels = dict.fromkeys(names, 0), [], []
    for key in (key.removesuffix('img_u8') for key in data if key.endswith('/img_u8')):
        image = tensor(np.moveaxis(data[f'{key}img_u8'], -1, 0)).float()
        truth, label = tensor(data[f'{key}gt']).long(), tensor(data[f'{key}cls_label'])
        masks, image_scores = evaluate_image(network, image, label, int(data['eval_size']))
        for name in names:
            assert (masks[name] != tensor(data[f'{key}{name}'])).float().mean() <= 0.005, (key, name)
            confusions[name] += confusion_matrix(masks[name], truth, num_classes, IGNORE)
        scores.append(image_scores)
        labels.append(label)
    for name, conf in confusions.items():
        np.testing.assert_allclose(iou_from_confusion(conf)[0].numpy(), data[f'{name}_iou'], atol=5e-3)
        close(summary_from_confusion(conf)['miou_present'], data[f'{name}_miou'], atol=5e-3)
    # Precision is averaged over images here, so that classes and images change places.
    for name, expected in zip(('cls', 'cls_aux'), data['cls_ap']):
        precision = average_precision(torch.cat([score[name] for score in scores]).T, torch.stack(labels).T)
        close(precision.nanmean(), expected, atol=1e-4)
