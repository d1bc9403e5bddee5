"""Maps of single images in files, handed from the stage that makes them to those that learn from them."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmwsss.utils.files import replacing

from .labeler import LabelState

SUFFIX = '.npz'
_UNREADABLE = (
    OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error,
    NotImplementedError,  # damaged headers can name a compression that zipfile does not know
    AttributeError, TypeError,  # an array that is no archive of several has no `with`
)  # fmt: skip


def maps_path(folder: str | os.PathLike, image_id: str) -> Path:
    """File of the maps of one image."""
    return Path(folder) / f'{image_id}{SUFFIX}'


def write_maps(path: str | os.PathLike, maps: Tensor, values: Tensor) -> None:
    """Write the maps of one image to ``path``, whole or not at all.

    Args:
        maps: (n, H, W), kept as float16 as in PMM.
        values: (n,) int64, the value in a mask that each map stands for: 0 for the background, k + 1 for the k-th
            foreground class.

    Raises:
        ValueError: shapes that do not belong together, a value that is negative or occurs twice, or maps that float16
            cannot hold.
    """
    problem = _problem(maps, values)
    half = maps.detach().to('cpu').half()
    if problem is None and not torch.isfinite(half).all():
        problem = 'maps hold numbers that are not finite in float16; normalise them before'
    if problem is not None:
        raise ValueError(f'{path} cannot be written: {problem}')
    with replacing(path, durable=False) as temporary, open(temporary, 'wb') as stream:
        np.savez_compressed(stream, maps=half.numpy(), values=values.detach().to('cpu', torch.int64).numpy())


def read_maps(path: str | os.PathLike) -> tuple[Tensor, Tensor]:
    """Maps (n, H, W) float32 and the mask values (n,) int64 they stand for, as :func:`write_maps` takes them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            maps, values = torch.from_numpy(arrays['maps']), torch.from_numpy(arrays['values'])
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'there are no maps {path}; write them with tools/generate_pseudo_labels.py --maps'
        ) from error
    except _UNREADABLE as error:
        raise ValueError(
            f'{path} holds no maps of an export ({type(error).__name__}: {error}); write it anew'
        ) from error
    if (problem := _problem(maps, values)) is not None:
        raise ValueError(f'{path} holds no maps of an export: {problem}; write it anew')
    return maps.float(), values.long()


def present_maps(state: LabelState, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Maps (n, H, W) of the classes present in the one image of ``state``, the background first, and their values (n,).

    Args:
        labels: (1, K) multi-hot, where the state has no labels; without any all maps are taken.
    """
    if state.labels is not None:
        labels = state.labels
    foreground = state.maps[:, 1:] if state.has_background else state.maps
    present = torch.ones_like(foreground[0, :, 0, 0], dtype=torch.bool) if labels is None else labels[0] > 0.5
    values = present.nonzero()[:, 0] + 1
    if state.has_background:
        values = torch.cat((values.new_zeros(1), values))
    return state.maps[0, values if state.has_background else values - 1], values


def _problem(maps: Tensor, values: Tensor) -> str | None:
    """What is wrong with the shapes and values; None where nothing is."""
    if maps.ndim != 3 or not maps.dtype.is_floating_point:
        return f'expected maps (n, H, W) of floating point, got {maps.dtype} {tuple(maps.shape)}'
    if tuple(values.shape) != (len(maps),) or values.dtype.is_floating_point:
        return f'expected one whole number for each of the {len(maps)} maps, got {values.dtype} {tuple(values.shape)}'
    found = values.tolist()
    if len(set(found)) < len(found) or any(value < 0 for value in found):
        return f'values of maps have to be different and not negative, got {found}'
    return None
