"""Scores against arrays written by the official codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from vectors import close, load, tensor, vectors

from mmwsss.evaluation.confusion import (
    confusion_matrix,
    iou_from_confusion,
    summary_from_confusion,
    sweep_confusion,
)

IGNORE = 255


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
