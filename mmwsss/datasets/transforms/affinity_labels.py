"""Labels of an affinity network from stored maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from torch import Tensor

from mmwsss.pseudo_labels.stored_maps import maps_path, read_maps
from mmwsss.refiners.affinity import affinity_label_map, corner_range, crop_flip_pad
from mmwsss.registry import TRANSFORMS

from ..checks import Problem
from .multi_crop import missing_maps


@TRANSFORMS.register_module()
class LoadAffinityLabels(BaseTransform):
    """Random crop, flip and padding of the image, and the labels of its cells from two exports of maps (PSA; PMM).

    Padding is black, as it comes before the normalisation. Sets ``gt_seg_map`` (crop_size // stride squared) int64, the
    classes of the cells where ``low`` decides for one, 0 where ``high`` decides for the background, ``ignore_index`` in
    between and in the padding; see :func:`~mmwsss.refiners.affinity.affinity_label_map`.

    Args:
        low: folder ``maps`` of an export whose background has a low exponent, such as 4, and is strong therefore.
        high: the same with a high exponent, such as 32.
        crop_size: side of the crop in pixels.
        stride: side of a cell in pixels.
        flip_prob: probability of a mirror image.
        ignore_index: value of cells about which nothing is known.

    Raises:
        ValueError: ``crop_size`` is no multiple of ``stride``; when called, maps without background, of different
            classes, or of another size than the image.
    """

    def __init__(
        self,
        low: str,
        high: str,
        crop_size: int = 448,
        stride: int = 8,
        flip_prob: float = 0.5,
        ignore_index: int = 255,
    ) -> None:
        if crop_size < 1 or stride < 1 or crop_size % stride:
            raise ValueError(f'crop_size {crop_size} of LoadAffinityLabels has to be a multiple of stride {stride}')
        if not 0 <= flip_prob <= 1:
            raise ValueError(f'flip_prob has to be in [0, 1], got {flip_prob}')
        self.low, self.high = low, high
        self.crop_size = crop_size
        self.stride = stride
        self.flip_prob = flip_prob
        self.ignore_index = ignore_index

    def find_problems(self, infos: Sequence[dict]) -> list[Problem]:
        """What is missing for the images of ``infos``, asked by the dataset before training."""
        problems = missing_maps((self.low, self.high), infos)
        if not problems and infos:
            try:
                self.read_stacks(infos[0]['img_id'])
            except ValueError as error:
                problems.append(Problem('maps that do not fit', infos[0]['img_id'], str(error)))
        return problems

    def read_stacks(self, image_id: str) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (n, H, W) for the low and the high exponent, the background first, and the classes (n,) they are of.

        Raises:
            FileNotFoundError: a file is not there.
            ValueError: the maps have no background, or the files do not belong together.
        """
        paths = [maps_path(folder, image_id) for folder in (self.low, self.high)]
        (low, values), (high, others) = map(read_maps, paths)
        for path, classes in zip(paths, (values, others)):
            if not len(classes) or classes[0] != 0:
                raise ValueError(f'{path} has no background map; export with a chain that has AddBackground')
        if not torch.equal(values, others) or low.shape != high.shape:
            raise ValueError(
                f'{paths[0]} holds {tuple(low.shape)} maps of classes {values.tolist()}, {paths[1]} '
                f'{tuple(high.shape)} of {others.tolist()}; make both from one model and data set'
            )
        return low, high, values

    def transform(self, results: dict) -> dict:
        """Crop ``img`` (H, W, 3) and set ``gt_seg_map``; needs ``img_id``."""
        image = torch.from_numpy(np.ascontiguousarray(results['img'])).permute(2, 0, 1)
        low, high, values = self.read_stacks(results['img_id'])
        if low.shape[1:] != image.shape[1:]:
            raise ValueError(
                f'maps of {results["img_id"]} are {tuple(low.shape[1:])}, the image {tuple(image.shape[1:])}; put '
                'LoadAffinityLabels right behind LoadImageFromFile'
            )
        x, y = (int(np.random.randint(corner_range(side, self.crop_size) + 1)) for side in image.shape[:0:-1])
        flip = bool(np.random.random() < self.flip_prob)
        image, low, high = (crop_flip_pad(stack, self.crop_size, (y, x), flip) for stack in (image, low, high))
        table = values.new_full((256,), self.ignore_index)
        table[: len(values)] = values
        results['img'] = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        results['img_shape'] = (self.crop_size, self.crop_size)
        results['flip'], results['flip_direction'] = flip, 'horizontal' if flip else None
        # Not in seg_fields: it has the size of the cells, not of the image.
        results['gt_seg_map'] = table[affinity_label_map(low, high, self.stride)].numpy()
        return results
