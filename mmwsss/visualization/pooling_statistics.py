"""How many patches a pooling takes of each class in each image, and how many of them lie on the class."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.dataset import BaseDataset, pseudo_collate
from mmseg.structures import SegDataSample
from torch import nn
from torch.utils.data import DataLoader, Subset

from mmwsss.models.segmentors.weak_segmentor import first_view, stack_image_labels, with_background
from mmwsss.utils.files import replacing

COLUMNS = ('image', 'class', 'K', 'best_score', 'kth_score', 'on_class')


@dataclass(frozen=True)
class PatchCount:
    """What the pooling took of one class in one image.

    Args:
        label: index of the class, 0 for the background.
        k: number of patches taken.
        best, kth: the highest and the lowest score among them.
        judged: how many of them have a known class at their centre, which ignored pixels do not have; None without a
            true mask.
        on_class: how many of those have this one there.
    """

    image: str
    label: int
    k: int
    best: float
    kth: float
    judged: int | None = None
    on_class: int | None = None

    @property
    def share(self) -> float | None:
        """Share of the judged patches that lie on the class, None where there are none."""
        return self.on_class / self.judged if self.judged else None


@dataclass(frozen=True)
class PooledImage:
    """Patch scores of one image, the patches that the pooling takes of them, and the counts of the present classes.

    Args:
        name: id of the image.
        scores, chosen: (C, h, w) float32 and bool, one channel per class; without background C = number of classes - 1.
        counts: one entry per present class, by its index.
        truth: (H, W) true mask; None without one.
    """

    name: str
    sample: SegDataSample
    scores: np.ndarray
    chosen: np.ndarray
    counts: list[PatchCount]
    truth: np.ndarray | None


@dataclass(frozen=True)
class ClassSummary:
    """Counts of one class over all images that show it; ``share`` is of all its judged patches."""

    name: str
    images: int
    mean: float
    median: float
    lowest: int
    highest: int
    best: float
    share: float | None


def check_pooling(model: nn.Module) -> None:
    """Check, without an image, that ``model`` has a head that pools the patch scores of classes.

    Raises:
        ValueError: it has none, the head pools features, or its pooling does not tell which patches it takes.
    """
    head = getattr(model, 'head', None)
    if not (hasattr(model, 'extract_feat') and hasattr(head, 'pooled_maps')):
        raise ValueError(f'{type(model).__name__} has no head that pools patch scores; use a weak segmentor')
    with torch.no_grad():
        head.pooled_maps(next(head.parameters()).new_zeros(1, head.in_channels, 1, 1))
    if not hasattr(head.pooling, 'selection'):
        raise ValueError(
            f'{type(head.pooling).__name__} does not tell which patches it takes; derive it from ScorePooling'
        )


@torch.no_grad()
def pooled_images(
    model: nn.Module, dataset: BaseDataset, names: Sequence[str], batch_size: int = 1, num_workers: int = 0
) -> Iterator[PooledImage]:
    """Pool the first ``len(names)`` images of ``dataset`` with the head of ``model``, which is in evaluation mode.

    Args:
        model: weak segmentor that :func:`check_pooling` passes.
        dataset: images with image labels, and true masks where it has them, through a test pipeline.
        names: ids of the images.

    Raises:
        ValueError: the image labels are missing or do not fit the model, or images were padded.
    """
    loader = DataLoader(
        Subset(dataset, range(len(names))), batch_size=batch_size, num_workers=num_workers, collate_fn=pseudo_collate
    )
    remaining = iter(names)
    for data in loader:
        batch = model.data_preprocessor(data, False)
        samples = batch['data_samples']
        present = _present_classes(samples, model.num_classes)
        scores = model.head.pooled_maps(model.extract_feat(first_view(batch['inputs']))).float()
        chosen = model.head.pooling.selection(scores)
        for sample, labels, own, taken in zip(samples, present, scores.cpu().numpy(), chosen.cpu().numpy()):
            name = next(remaining)
            truth = sample.gt_sem_seg.data[0].cpu().numpy() if 'gt_sem_seg' in sample else None
            counts = count_patches(name, own, taken, labels, model.num_classes, truth, dataset.ignore_index)
            yield PooledImage(name, sample, own, taken, counts, truth)


def count_patches(
    name: str,
    scores: np.ndarray,
    chosen: np.ndarray,
    labels: Sequence[int],
    num_classes: int,
    truth: np.ndarray | None = None,
    ignore_index: int = 255,
) -> list[PatchCount]:
    """Count the patches of each class of ``labels`` that ``scores`` has a channel of.

    Args:
        scores, chosen: (C, h, w) as in :class:`PooledImage`.
        labels: indices of the present classes, 0 for the background.
        num_classes: classes including the background.
        truth: (H, W) classes or ``ignore_index``; the patches divide it evenly, whatever its size.
    """
    offset = num_classes - len(scores)
    centres = None if truth is None else classes_at_centres(truth, chosen.shape[-2:])
    counts = []
    for label in labels:
        if label < offset:
            continue
        taken = chosen[label - offset]
        values = scores[label - offset][taken]
        judged = on_class = None
        if centres is not None:
            found = centres[taken]
            judged, on_class = int((found != ignore_index).sum()), int((found == label).sum())
        counts.append(
            PatchCount(name, label, int(taken.sum()), float(values.max()), float(values.min()), judged, on_class)
        )
    return counts


def classes_at_centres(truth: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Classes (h, w) of the mask ``truth`` (H, W) at the centres of a ``grid`` of h x w patches that divides it evenly.

    >>> classes_at_centres(np.arange(16).reshape(4, 4), (2, 2)).tolist()
    [[5, 7], [13, 15]]
    """
    rows, columns = (((np.arange(n) + 0.5) * size / n).astype(int) for n, size in zip(grid, truth.shape))
    return truth[np.ix_(rows, columns)]


def summarize(counts: Sequence[PatchCount], classes: Sequence[str]) -> list[ClassSummary]:
    """Summary of all foreground classes together, where there are any, then of every class that occurs."""
    groups = {'all foreground': [count for count in counts if count.label > 0]}
    for count in sorted(counts, key=lambda count: count.label):
        groups.setdefault(classes[count.label], []).append(count)
    return [_summary(name, group) for name, group in groups.items() if group]


def write_counts(path: str | os.PathLike, counts: Sequence[PatchCount], classes: Sequence[str]) -> None:
    """Write one line per image and class with the columns :data:`COLUMNS`; unknown shares stay empty."""
    with replacing(path) as temporary, open(temporary, 'w', newline='', encoding='utf-8') as stream:
        writer = csv.writer(stream, lineterminator='\n')
        writer.writerow(COLUMNS)
        for count in counts:
            share = '' if count.share is None else f'{count.share:.4f}'
            writer.writerow(
                [count.image, classes[count.label], count.k, f'{count.best:.6g}', f'{count.kth:.6g}', share]
            )


def _present_classes(samples: list[SegDataSample], num_classes: int) -> list[list[int]]:
    """Indices of the classes in the image labels of each sample, the background included unless a sample denies it."""
    if any(any(sample.get('img_padding_size', ())) for sample in samples):
        raise ValueError(
            'test images were padded to one size, which would shift the patches; set batch_size=1 in the dataloader '
            'and no test_cfg in the data preprocessor'
        )
    labels = stack_image_labels(samples, num_classes - 1).cpu()
    background = torch.tensor([float(sample.get('background_label', 1)) for sample in samples])
    return [(row > 0.5).nonzero().flatten().tolist() for row in with_background(labels, background)]


def _summary(name: str, group: Sequence[PatchCount]) -> ClassSummary:
    ks = [count.k for count in group]
    judged = sum(count.judged or 0 for count in group)
    return ClassSummary(
        name=name,
        images=len({count.image for count in group}),
        mean=float(np.mean(ks)),
        median=float(np.median(ks)),
        lowest=min(ks),
        highest=max(ks),
        best=float(np.mean([count.best for count in group])),
        share=sum(count.on_class or 0 for count in group) / judged if judged else None,
    )
