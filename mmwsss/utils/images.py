"""Decoding image files of which nothing is known, and reading the image that a data sample came from."""

from __future__ import annotations

import io
import os
import struct
import zlib

import cv2
import mmcv
import numpy as np
import torch
from mmseg.structures import SegDataSample
from PIL import Image
from torch import Tensor

MAX_PIXELS = 'MMWSSS_MAX_IMAGE_PIXELS'  # environment variable: images of more pixels are refused
# What Pillow and OpenCV raise on files that are no image, or a broken one.
UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError, cv2.error,
)  # fmt: skip
_JPEG_START, _JPEG_END = b'\xff\xd8', b'\xff\xd9'


def limit_pixels(limit: int) -> None:
    """Refuse images of more than ``limit`` pixels from now on, which Pillow sees in their header.

    Pillow's own limit, which holds without this, is 178956970.
    """
    Image.MAX_IMAGE_PIXELS = max(limit // 2, 1)  # Pillow warns above it, and refuses above twice as much


if os.environ.get(MAX_PIXELS):
    limit_pixels(int(os.environ[MAX_PIXELS]))


def decode_image(content: bytes, flag: str = 'color', backend: str = 'cv2') -> np.ndarray:
    """Pixels of an image file, turned as its EXIF tag says: (H, W, 3) uint8 in BGR for 'color'.

    The size in the header is checked before anything is decoded; see :func:`limit_pixels`.

    Args:
        flag, backend: see ``mmcv.imfrombytes``.

    Raises:
        ValueError: the file is no image, cut off, or too large.
        OSError and others of :data:`UNREADABLE`: the same.
    """
    if not content:
        raise ValueError('the file is empty')
    with Image.open(io.BytesIO(content)) as image:
        # OpenCV 4 fills up what is missing of a JPEG with grey; Pillow refuses to.
        if content.startswith(_JPEG_START) and not content.endswith(_JPEG_END):
            image.draft(image.mode, (1, 1))
            image.load()
    decoded = mmcv.imfrombytes(content, flag=flag, backend=backend)
    if decoded is None:
        raise ValueError('it is damaged or cut off')
    return decoded


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
        with open(path, 'rb') as stream:
            image = decode_image(stream.read())
    except UNREADABLE as error:
        raise ValueError(f'{path} cannot be decoded ({error}); replace the file') from error
    if image.shape[:2] != tuple(sample.ori_shape[:2]):
        found, expected = (f'{size[0]} x {size[1]}' for size in (image.shape, sample.ori_shape))
        raise ValueError(f'{path} gives {found} pixels, expected {expected} as when the pipeline read it')
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).to(device).permute(2, 0, 1)[None]
