"""Small pictures of a report: photographs, masks and maps, encoded to be laid over each other by a browser."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

MAX_SIDE = 288  # pixels of the longer side of a picture
_IGNORED = (211, 211, 211)
_MIMES = {'.webp': 'image/webp', '.png': 'image/png', '.jpg': 'image/jpeg'}


def fitted_size(size: Sequence[int], longest: int = MAX_SIDE) -> tuple[int, int]:
    """Width and height of a picture of ``size`` (height, width) whose longer side is at most ``longest`` pixels.

    >>> fitted_size((300, 600), 200)
    (200, 100)
    """
    height, width = size
    factor = min(1.0, longest / max(height, width))
    return max(1, round(width * factor)), max(1, round(height * factor))


def encode_photo(image: np.ndarray) -> bytes:
    """WebP of ``image`` (H, W, 3) uint8 RGB, at most :data:`MAX_SIDE` large."""
    small = Image.fromarray(image).resize(fitted_size(image.shape[:2]), Image.Resampling.BOX)
    return _encoded(small, 'WEBP', quality=72, method=4)


def encode_mask(mask: np.ndarray, palette: Sequence[Sequence[int]], ignore_index: int = 255) -> bytes:
    """PNG of the classes in ``mask`` (H, W), each in its colour of ``palette``.

    The background (class 0) is transparent, ``ignore_index`` light grey. Only the colours that occur are stored.
    """
    width, height = fitted_size(mask.shape)
    rows = (np.arange(height) * mask.shape[0] // height)[:, None]
    columns = np.arange(width) * mask.shape[1] // width
    present, index = np.unique(mask[rows, columns], return_inverse=True)
    picture = Image.fromarray(index.reshape(height, width).astype(np.uint8), mode='P')
    colours = [_IGNORED if label == ignore_index else palette[label] for label in present.tolist()]
    picture.putpalette(np.asarray(colours, dtype=np.uint8).tobytes())
    opacity = bytes(0 if label == 0 else 255 for label in present.tolist())
    return _encoded(picture, 'PNG', optimize=True, transparency=opacity)


def encode_maps(maps: np.ndarray, palette: Sequence[Sequence[int]]) -> bytes:
    """WebP of localization maps: each pixel in the colour of its strongest class, as opaque as this class is strong.

    Args:
        maps: (K, H, W) or (K + 1, H, W) scores of which 0..1 is shown; a background channel comes first.
        palette: K + 1 RGB colours.
    """
    foreground = maps[len(maps) - (len(palette) - 1) :]
    width, height = fitted_size(maps.shape[1:])
    rows = (np.arange(height) * maps.shape[1] // height)[:, None]
    columns = np.arange(width) * maps.shape[2] // width
    small = np.nan_to_num(foreground[:, rows, columns].astype(np.float32))
    best = small.argmax(axis=0)
    strength = np.take_along_axis(small, best[None], axis=0)[0].clip(0, 1)
    colours = np.asarray(palette, dtype=np.uint8)[best + 1]
    layer = np.dstack([colours, np.rint(strength * 255).astype(np.uint8)])
    return _encoded(Image.fromarray(layer, mode='RGBA'), 'WEBP', quality=60, alpha_quality=60, method=4)


def data_uri(path: str | os.PathLike) -> str:
    """Content of the picture file ``path`` as a ``data:`` address."""
    path = Path(path)
    return f'data:{_MIMES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}'


def _encoded(picture: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=kind, **options)
    return stream.getvalue()
