"""Reading the image that a data sample came from."""

from __future__ import annotations

import os

import mmcv
import torch
from mmseg.structures import SegDataSample
from torch import Tensor


def read_sample_image(sample: SegDataSample, device: torch.device | str, needed_by: str) -> Tensor:
    """Image (1, 3, H, W) uint8 RGB of ``sample`` at its original size.

    Args:
        needed_by: who needs it, for the messages.

    Raises:
        ValueError: ``sample`` has no ``img_path``, or the file is missing, cannot be decoded or is not as large as
            ``ori_shape``.
    """
    path = sample.get('img_path')
    if path is None:
        raise ValueError(f'{needed_by} needs the image file; give images by path and keep img_path among the meta_keys')
    if not os.path.isfile(path):
        raise ValueError(f'{needed_by} needs the image {path}, which does not exist')
    try:
        image = mmcv.imread(path, channel_order='rgb')
    except Exception as error:  # OpenCV's own, without the name of the file
        raise ValueError(f'{path} cannot be decoded ({error}); replace the file') from error
    if image is None or image.shape[:2] != tuple(sample.ori_shape[:2]):
        found = 'nothing' if image is None else f'{image.shape[0]} x {image.shape[1]}'
        expected = f'{sample.ori_shape[0]} x {sample.ori_shape[1]}'
        raise ValueError(f'{path} gives {found} pixels, expected {expected} as when the pipeline read it')
    return torch.from_numpy(image).to(device).permute(2, 0, 1)[None]
