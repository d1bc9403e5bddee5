"""Reading the image of a sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmseg.structures import SegDataSample
from PIL import Image

from mmwsss.utils.images import read_sample_image


def sample_of(path: Path | None, size: tuple[int, int] = (3, 5)) -> SegDataSample:
    return SegDataSample(metainfo=dict(img_path=None if path is None else str(path), ori_shape=size))


def test_channels_are_rgb(tmp_path: Path) -> None:
    array = np.zeros((3, 5, 3), np.uint8)
    array[..., 0] = 200
    Image.fromarray(array).save(tmp_path / 'red.png')
    image = read_sample_image(sample_of(tmp_path / 'red.png'), 'cpu', 'a test')
    assert image.shape == (1, 3, 3, 5)
    assert image.dtype == torch.uint8
    assert image.amax((0, 2, 3)).tolist() == [200, 0, 0]


def test_mistakes_name_the_file(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / 'other.png')
    (tmp_path / 'broken.png').write_bytes(b'no picture')
    for path, message in (
        (None, 'a test needs the image file; give images by path'),
        (tmp_path / 'gone.png', r'gone\.png, which does not exist'),
        (tmp_path / 'broken.png', r'broken\.png (cannot be decoded|gives nothing)'),
        (tmp_path / 'other.png', r'other\.png gives 4 x 5 pixels, expected 3 x 5'),
    ):
        with pytest.raises(ValueError, match=message):
            read_sample_image(sample_of(path), 'cpu', 'a test')
