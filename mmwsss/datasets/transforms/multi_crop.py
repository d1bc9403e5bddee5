"""Crops of several scales whose image labels follow stored heat maps (PMM, sec. 3.2)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform

from mmwsss.pseudo_labels.multi_crop import INNER_CROPS, crop_boxes
from mmwsss.pseudo_labels.stored_maps import maps_path, read_maps
from mmwsss.registry import TRANSFORMS

from ..checks import Problem

_EXPORT = 'write it with tools/generate_pseudo_labels.py --maps'


def box_counts(hot: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """How many pixels of each map of ``hot`` (n, H, W) bool lie in each of ``boxes`` (M, 4), int64 (M, n).

    The boxes are top, bottom, left, right, half open.
    """
    sums = np.zeros((len(hot), hot.shape[1] + 1, hot.shape[2] + 1), dtype=np.int64)
    hot.cumsum(axis=1, dtype=np.int64).cumsum(axis=2, out=sums[:, 1:, 1:])
    top, bottom, left, right = boxes.T
    counts = sums[:, bottom, right] - sums[:, top, right] - sums[:, bottom, left] + sums[:, top, left]
    return counts.T


def crop_labels(hot: np.ndarray, boxes: np.ndarray, share: float = 0.1, erased: np.ndarray | None = None) -> np.ndarray:
    """Which classes each crop shows, bool (M, n): enough of their hot pixels, or enough of the crop.

    Args:
        hot: (n, H, W) bool, pixels of high score of each class.
        boxes: (M, 4) int, top, bottom, left, right of the crops.
        share: a class is shown where more than this share of its hot pixels lies in the crop, or where they take more
            than this share of the crop.
        erased: (M, 4), a part of each crop that is blanked, whose pixels do not count. The released code has such an
            option and leaves it off.
    """
    inside = box_counts(hot, boxes)
    if erased is not None:
        inside = inside - box_counts(hot, erased)
    top, bottom, left, right = boxes.T
    area = ((bottom - top) * (right - left))[:, None]
    whole = np.maximum(hot.sum(axis=(1, 2)), 1)
    return (inside / whole > share) | (inside / np.maximum(area, 1) > share)


def part_of_crops(boxes: np.ndarray, part: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """The same part of every crop, int64 (M, 4), given as it lies in a whole image of ``size`` (H, W).

    Args:
        boxes: (M, 4) top, bottom, left, right.
        part: (4,) likewise, in pixels of the image.
    """
    top, bottom, left, right = boxes.T
    rows = [top + (edge * (bottom - top) / size[0]).astype(np.int64) for edge in part[:2]]
    columns = [left + (edge * (right - left) / size[1]).astype(np.int64) for edge in part[2:]]
    return np.stack((*rows, *columns), axis=1)


def missing_maps(folders: Sequence[str | os.PathLike], infos: Sequence[dict]) -> list[Problem]:
    """Folders of stored maps that are missing, or else the files missing in them for the images of ``infos``."""
    missing = [str(folder) for folder in folders if not os.path.isdir(folder)]
    if missing:
        return [Problem('missing maps', folder, f'no such folder; {_EXPORT}') for folder in missing]
    paths = [str(maps_path(folder, info['img_id'])) for info in infos for folder in folders]
    return [Problem('missing maps', path, f'no such file; {_EXPORT}') for path in paths if not os.path.isfile(path)]


@TRANSFORMS.register_module()
class MultiCropSample(BaseTransform):
    """Cut one of the crops that :func:`~mmwsss.pseudo_labels.multi_crop.crop_boxes` makes at a random scale (PMM).

    Image labels become those of the classes that the crop shows by the stored maps. Crops of the scale are drawn with
    replacement, at most as many times as there are, until one shows a class; otherwise the last one drawn is taken,
    with no label at all. Put it right after the loading of the image, and a resizing to ``crop_size`` behind.

    Args:
        maps_dir: folder ``maps/`` of an export with ``--maps``, made with image labels.
        scales: drawn uniformly.
        crop_size, stride, inner_crop: see :func:`~mmwsss.pseudo_labels.multi_crop.crop_boxes`.
        threshold: score above which a pixel is hot.
        share: see :func:`crop_labels`.

    Raises:
        ValueError: a setting out of its range; when called, maps of another size than the image or without a class that
            the image has.
        FileNotFoundError: when called, there are no maps of the image.
    """

    def __init__(
        self,
        maps_dir: str | os.PathLike,
        scales: Sequence[float],
        crop_size: int = 448,
        stride: int = 300,
        inner_crop: str = 'stride',
        threshold: float = 0.9,
        share: float = 0.1,
    ) -> None:
        if not scales or min(scales) <= 0:
            raise ValueError(f'scales of MultiCropSample have to be positive, at least one, got {scales}')
        if crop_size < 1 or stride < 1:
            raise ValueError(f'MultiCropSample: crop_size={crop_size} and stride={stride} have to be positive')
        if inner_crop not in INNER_CROPS:
            raise ValueError(f'inner_crop of MultiCropSample has to be one of {INNER_CROPS}, got {inner_crop!r}')
        for name, value in (('threshold', threshold), ('share', share)):
            if not 0 <= value < 1:
                raise ValueError(f'{name} of MultiCropSample has to be in [0, 1), got {value}')
        self.maps_dir = maps_dir
        self.scales = tuple(scales)
        self.crop_size, self.stride, self.inner_crop = crop_size, stride, inner_crop
        self.threshold = threshold
        self.share = share

    def find_problems(self, infos: Sequence[dict]) -> list[Problem]:
        """Maps that are missing for the images of ``infos``, asked by the dataset before training."""
        return missing_maps([self.maps_dir], infos)

    def transform(self, results: dict) -> dict:
        """Crop ``img`` (H, W, 3) and ``seg_fields`` (H, W), and change ``image_labels`` (K,); sets ``img_shape``."""
        size, labels = results['img'].shape[:2], results['image_labels']
        hot = self._hot_pixels(results, np.flatnonzero(labels > 0.5))
        scale = self.scales[np.random.randint(len(self.scales))]
        boxes = crop_boxes(size, scale, self.crop_size, self.stride, self.inner_crop).numpy()
        boxes = boxes[np.random.randint(len(boxes), size=len(boxes))]
        shown = crop_labels(hot, boxes, self.share)
        found = shown.any(axis=1)
        chosen = int(found.argmax()) if found.any() else -1
        results['image_labels'] = np.zeros_like(labels)
        results['image_labels'][np.flatnonzero(labels > 0.5)[shown[chosen]]] = 1
        top, bottom, left, right = boxes[chosen].tolist()
        for key in ('img', *results.get('seg_fields', [])):
            results[key] = np.ascontiguousarray(results[key][top:bottom, left:right])
        results['img_shape'] = results['img'].shape[:2]
        return results

    def _hot_pixels(self, results: dict, classes: np.ndarray) -> np.ndarray:
        """Pixels of high score (n, H, W) bool of ``classes`` (n,), from 0."""
        path = maps_path(self.maps_dir, results.get('img_id', Path(results['img_path']).stem))
        maps, values = (tensor.numpy() for tensor in read_maps(path))
        if maps.shape[1:] != results['img'].shape[:2]:
            raise ValueError(
                f'{path} holds maps of {maps.shape[1:]} for an image of {results["img"].shape[:2]} (height, width); '
                'put MultiCropSample right after the loading of the image'
            )
        if missing := set(classes + 1) - set(values.tolist()):
            raise ValueError(
                f'{path} holds no map of class {min(missing)}, which the image has; export maps with image labels '
                'of the same source'
            )
        order = {value: position for position, value in enumerate(values.tolist())}
        return maps[[order[value] for value in classes + 1]] > self.threshold
