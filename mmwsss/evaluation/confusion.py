"""Counting for segmentation scores: confusion matrices, IoU, sweeps over background settings, image-level scores.

Everything here is a pure function on tensors, on whatever device they are. Rows of a confusion matrix are the ground
truth, columns the prediction.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def confusion_matrix(
    pred: Tensor, label: Tensor, num_classes: int, ignore_index: int, ignored_column: bool = False
) -> Tensor:
    """Count (ground truth, prediction) pairs over the pixels whose label is not ``ignore_index``.

    Args:
        pred: predicted classes, integer, any shape.
        label: ground truth of the same shape.
        ignored_column: give predictions equal to ``ignore_index`` a last column of their own, so that they count as
            misses of the true class; without it they are an error.

    Returns:
        (C, C) int64, or (C, C + 1) with ``ignored_column``.

    Raises:
        ValueError: shapes differ, or a value is neither a class nor allowed to be ``ignore_index``.

    >>> confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 255]), 2, 255).tolist()
    [[1, 0], [0, 1]]
    """
    pred, label = _valid_pixels(pred, label, num_classes, ignore_index)
    columns = num_classes
    if ignored_column:
        pred = torch.where(pred == ignore_index, num_classes, pred)
        columns += 1
    _check_range(pred, columns, 'predictions')
    return _joint_counts(label, pred, num_classes, columns)


def iou_from_confusion(conf: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union from confusion matrices.

    Args:
        conf: (..., C, C) counts, or (..., C, C + 1) with a last column of ignored predictions.

    Returns:
        IoU (..., C) float64, nan for classes that occur in neither truth nor prediction; and mIoU (...), their mean
        without the nan (as mmseg's IoUMetric and Keras' MeanIoU have it).
    """
    intersection, truth, predicted = _marginals(conf)
    iou = intersection / (truth + predicted - intersection)
    return iou, iou.nanmean(dim=-1)


def summary_from_confusion(conf: Tensor) -> dict[str, Tensor]:
    """Four summary scores of one (C, C) or (C, C + 1) confusion matrix, each a float64 scalar.

    ``pixel_accuracy``; ``mean_accuracy`` and ``miou_present``, averaged over the classes that occur in the ground
    truth; ``fw_iou``, the IoU weighted by the frequency of the class in the ground truth.
    """
    intersection, truth, _ = _marginals(conf)
    iou, _ = iou_from_confusion(conf)
    present = truth > 0
    return {
        'pixel_accuracy': intersection.sum() / truth.sum(),
        'mean_accuracy': (intersection[present] / truth[present]).mean(),
        'fw_iou': (truth[present] * iou[present]).sum() / truth.sum(),
        'miou_present': iou[present].mean(),
    }


def sweep_histogram(
    maps: Tensor, label: Tensor, settings: Sequence[float], has_background: bool, num_classes: int, ignore_index: int
) -> Tensor:
    """Joint histogram of (ground truth, best foreground class, number of settings that make the pixel foreground).

    Args:
        maps: (K, H, W) scores of the foreground classes, or (K + 1, H, W) with a background score in channel 0.
        label: (H, W) ground truth.
        settings: S background settings b in any order. A pixel is foreground when its best foreground score is
            > b, with a background channel > b * background score.

    Returns:
        (C, K, S + 1) int64; :func:`confusion_from_sweep` makes confusion matrices of it.

    Raises:
        ValueError: wrong shapes, scores that are nan, negative background scores, or settings that are not finite.
    """
    expected = num_classes if has_background else num_classes - 1
    if maps.ndim != 3 or maps.shape[0] != expected:
        raise ValueError(f'maps must have {expected} channels for {num_classes} classes, got {tuple(maps.shape)}')
    maps = maps if maps.dtype == torch.float64 else maps.float()
    if torch.isnan(maps).any():
        raise ValueError('maps contain nan; the network diverged or a map was normalised by zero')
    thresholds = torch.as_tensor(sorted(settings), dtype=maps.dtype, device=maps.device)
    if thresholds.numel() == 0 or not torch.isfinite(thresholds).all():
        raise ValueError(f'settings must be finite numbers, at least one, got {list(settings)}')
    foreground = maps[1:] if has_background else maps
    score, best = _first_best(foreground)
    level = _level(score, maps[0], thresholds) if has_background else torch.bucketize(score, thresholds)
    levels = len(thresholds) + 1
    bins, label = _valid_pixels(best * levels + level, label, num_classes, ignore_index)
    per_label = (num_classes - 1) * levels
    return _joint_counts(label, bins, num_classes, per_label).reshape(num_classes, num_classes - 1, levels)


def confusion_from_sweep(histogram: Tensor) -> Tensor:
    """Confusion matrices (S, C, C) for the settings in ascending order from a (C, K, S + 1) :func:`sweep_histogram`."""
    # A pixel of level l is foreground for the l smallest settings, so setting j counts the levels above j.
    above = histogram.flip(-1).cumsum(-1).flip(-1)
    foreground = above[..., 1:].permute(2, 0, 1)  # C K S -> S C K
    background = above[..., 0].sum(-1) - foreground.sum(-1)
    return torch.cat([background[..., None], foreground], dim=-1)


def sweep_confusion(
    maps: Tensor, label: Tensor, settings: Sequence[float], has_background: bool, num_classes: int, ignore_index: int
) -> Tensor:
    """Confusion matrices (S, C, C) int64 of maps against ``label``, one for each of the S settings in their order.

    Arguments and errors are those of :func:`sweep_histogram`.
    """
    ascending = confusion_from_sweep(sweep_histogram(maps, label, settings, has_background, num_classes, ignore_index))
    order = sorted(range(len(settings)), key=lambda i: settings[i])
    rank = torch.as_tensor(order, device=ascending.device).argsort()
    return ascending[rank]


def f1_scores(scores: Tensor, labels: Tensor, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """F1 of image-level predictions ``scores > threshold``, without a background class.

    Args:
        scores: (N, K) image scores.
        labels: (N, K) multi-hot ground truth.

    Returns:
        macro (mean over all K classes, 0 for a class without any positive) and micro F1, float64 scalars.
    """
    _check_same_shape(scores, labels, 'scores')
    predicted, positive = scores > threshold, labels > 0.5
    hits = (predicted & positive).sum(0).double()
    total = (predicted.sum(0) + positive.sum(0)).double()  # 2 TP + FP + FN
    macro = (2 * hits / total.clamp(min=1)).mean()
    micro = 2 * hits.sum() / total.sum().clamp(min=1)
    return macro, micro


def average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """Average precision per class, (K,) float64 with nan for classes without a positive image.

    Args:
        scores: (N, K) image scores.
        labels: (N, K) multi-hot ground truth.
    """
    from sklearn.metrics import average_precision_score

    _check_same_shape(scores, labels, 'scores')
    score_array, label_array = scores.double().cpu().numpy(), (labels > 0.5).cpu().numpy()
    result = np.full(label_array.shape[1], np.nan)
    for k in np.flatnonzero(label_array.any(axis=0)):
        result[k] = average_precision_score(label_array[:, k], score_array[:, k])
    return torch.from_numpy(result)


def average_precision_per_image(scores: Tensor, labels: Tensor) -> Tensor:
    """Average precision of the class scores of each image, (N,) float64 with nan for images without a class.

    It is the mean over an image's classes of the precision among all classes that score at least as high, so equal
    scores count as one step.

    Args:
        scores: (N, K) image scores.
        labels: (N, K) multi-hot ground truth.
    """
    _check_same_shape(scores, labels, 'scores')
    scores, positive = scores.double().contiguous(), labels > 0.5
    classes = scores.shape[1]
    # In ascending order the scores from a class's position on are those at least as high.
    ranked = (scores, scores.masked_fill(~positive, -torch.inf))
    called, correct = (classes - torch.searchsorted(values.sort(dim=1).values, scores) for values in ranked)
    return (correct.double() / called * positive).sum(dim=1) / positive.sum(dim=1)


def _valid_pixels(values: Tensor, label: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """``values`` and ``label`` as int64, 0 and ``num_classes`` at ignored pixels.

    They stay where they are: to gather the others would take longer, and the host would wait for their number.
    """
    _check_same_shape(values, label, 'predictions')
    label = label.to(values.device).long()
    keep = label != ignore_index
    _check_range(torch.where(keep, label, 0), num_classes, 'ground-truth labels')
    return torch.where(keep, values.long(), 0), torch.where(keep, label, num_classes)


def _joint_counts(label: Tensor, values: Tensor, num_classes: int, columns: int) -> Tensor:
    """Counts (C, columns) int64 of pairs of :func:`_valid_pixels`, without the ignored ones."""
    pairs = (label * columns + values).flatten()
    counts = torch.bincount(pairs, minlength=(num_classes + 1) * columns)
    return counts[: num_classes * columns].reshape(num_classes, columns)


def _first_best(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Largest value (H, W) of ``maps`` (K, H, W) and the first channel that has it."""
    if maps.device.type == 'cpu':  # where max names the first as well, and argmax is 20 times slower over channels
        return maps.max(dim=0)
    best = maps.argmax(dim=0)  # of both only argmax promises the first
    return maps.gather(0, best[None])[0], best


def _check_range(values: Tensor, size: int, name: str) -> None:
    if values.numel() == 0:
        return
    low, high = torch.stack(values.aminmax()).tolist()
    if low < 0 or high >= size:
        raise ValueError(f'{name} must lie in 0..{size - 1}, got {low}..{high}; check classes and ignore_index')


def _check_same_shape(values: Tensor, label: Tensor, name: str) -> None:
    if values.shape != label.shape:
        raise ValueError(f'{name} and labels must have one shape, got {tuple(values.shape)} and {tuple(label.shape)}')


def _marginals(conf: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    conf = conf.double()
    num_classes = conf.shape[-2]
    square = conf[..., :num_classes]
    return square.diagonal(dim1=-2, dim2=-1), conf.sum(-1), square.sum(-2)


def _level(score: Tensor, scale: Tensor, thresholds: Tensor) -> Tensor:
    """Number of ascending ``thresholds`` b with score > b * scale, by bisection on that very comparison.

    Dividing first would be shorter, but the quotient rounds differently from the product that decides elsewhere, and
    0 / 0 has no level.
    """
    if (scale < 0).any():
        raise ValueError('background scores must not be negative')
    level = torch.zeros_like(score, dtype=torch.long)
    step = 1 << (len(thresholds).bit_length() - 1)
    while step:
        probe = level + step
        threshold = thresholds[(probe - 1).clamp(max=len(thresholds) - 1)]
        level = torch.where((probe <= len(thresholds)) & (score > threshold * scale), probe, level)
        step >>= 1
    return level
