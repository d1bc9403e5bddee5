"""Two views of one image with a record of their geometry (ViT-PCM, sec. 2)."""

from __future__ import annotations

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from mmwsss.ops import apply_record
from mmwsss.ops.affine import BOX, FLIP_LR, FLIP_UD, RECORD_LENGTH, SIZE, TRANSPOSE
from mmwsss.registry import TRANSFORMS

from .color import ViewColorJitter
from .resize import resize_mask


def sample_crop_box(image_size: tuple[int, int], crop_size: int, grid: int) -> np.ndarray:
    """Draw a crop ``y1, x1, y2, x2`` whose origin lies on multiples of ``grid``.

    The origin is drawn from all multiples up to the image side and then clamped, so the last possible one is drawn more
    often, as in the official code.
    """
    limit = np.array(image_size)
    origin = np.array([np.random.randint(side // grid + 1) * grid for side in image_size])
    origin = np.minimum(origin, limit - crop_size)
    return np.concatenate((origin, origin + crop_size)).astype(np.float32)


def replay_record(image: np.ndarray, record: np.ndarray) -> np.ndarray:
    """Apply a geometric record (9,) to ``image`` (H, W, C), bilinearly; float32."""
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    return np.ascontiguousarray(apply_record(planes, torch.from_numpy(record)[None])[0].permute(1, 2, 0).numpy())


def replay_record_on_mask(mask: np.ndarray, record: np.ndarray) -> np.ndarray:
    """Apply a geometric record (9,) to ``mask`` (H, W), by nearest pixels."""
    y1, x1, y2, x2 = record[BOX].astype(int)
    mask = mask[y1:y2, x1:x2] if y2 > y1 else mask
    if record[SIZE].all():
        mask = resize_mask(mask, tuple(record[SIZE].astype(int)))
    mask = mask[:, ::-1] if record[FLIP_LR] else mask
    mask = mask[::-1] if record[FLIP_UD] else mask
    return np.ascontiguousarray(mask.T if record[TRANSPOSE] else mask)


@TRANSFORMS.register_module()
class TwoViews(BaseTransform):
    """Make the flipped view 1 and the smaller, sometimes cropped view 2 of an image.

    Sets ``img`` to view 1 (with the mask, if any), ``img_2`` to view 2 (float32), and ``record_1``, ``record_2`` (9,),
    see :mod:`mmwsss.ops.affine`. Put it after the resize to the training size.

    Args:
        view_2_size: side of view 2; four of them make a mosaic of view 1's size.
        crop_size: side of the crop of view 2.
        crop_prob: probability of a crop; otherwise view 2 shows the whole image.
        crop_grid: crops start at multiples of this, the patch size.
        flip_lr_prob, flip_ud_prob, transpose_prob: of each view, drawn independently.
        color: arguments of :class:`ViewColorJitter`, drawn independently for both views; None for no jitter.
        second_view: False makes view 1 only, for runs without the equivariance loss.

    Raises:
        ValueError: the crop is larger than the image.
    """

    def __init__(
        self,
        view_2_size: int = 192,
        crop_size: int = 128,
        crop_prob: float = 0.3,
        crop_grid: int = 16,
        flip_lr_prob: float = 0.5,
        flip_ud_prob: float = 0.5,
        transpose_prob: float = 0.5,
        color: dict | None = None,
        second_view: bool = True,
    ) -> None:
        self.view_2_size = view_2_size
        self.crop_size = crop_size
        self.crop_prob = crop_prob
        self.crop_grid = crop_grid
        self.flip_probs = {FLIP_LR: flip_lr_prob, FLIP_UD: flip_ud_prob, TRANSPOSE: transpose_prob}
        self.color = ViewColorJitter(**color) if color is not None else None
        self.second_view = second_view

    def transform(self, results: dict) -> dict:
        """Split ``results['img']`` into two views."""
        image = results['img']
        if self.second_view:
            results['record_2'] = self.record_2(image.shape[:2])
            results['img_2'] = replay_record(self._recolored(image), results['record_2'])
        results['record_1'] = self._with_flips(np.zeros(RECORD_LENGTH, dtype=np.float32))
        results['img'] = replay_record(self._recolored(image), results['record_1'])
        results['img_shape'] = results['img'].shape[:2]
        for key in results.get('seg_fields', []):
            results[key] = replay_record_on_mask(results[key], results['record_1'])
        return results

    def record_2(self, image_size: tuple[int, int]) -> np.ndarray:
        """Draw the record of view 2 of an image of ``image_size`` (H, W)."""
        record = np.zeros(RECORD_LENGTH, dtype=np.float32)
        if np.random.random() < self.crop_prob:
            if self.crop_size > min(image_size):
                raise ValueError(f'TwoViews: crop_size={self.crop_size} exceeds the image {tuple(image_size)}')
            record[BOX] = sample_crop_box(image_size, self.crop_size, self.crop_grid)
            shown = (self.crop_size, self.crop_size)
        else:
            shown = tuple(image_size)
        if shown != (self.view_2_size, self.view_2_size):
            record[SIZE] = self.view_2_size
        return self._with_flips(record)

    def _with_flips(self, record: np.ndarray) -> np.ndarray:
        for position, probability in self.flip_probs.items():
            record[position] = np.random.random() < probability
        return record

    def _recolored(self, image: np.ndarray) -> np.ndarray:
        return self.color.jitter(image) if self.color is not None else image
