"""Weights of the official networks, and differences measured by their largest value."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from vectors import tensor


def official_weights(data: Mapping[str, np.ndarray], prefix: str = 'w/') -> dict[str, Tensor]:
    """Weights in a file, under their official names."""
    return {key.removeprefix(prefix): tensor(value) for key, value in data.items() if key.startswith(prefix)}


def layout(folder: Path, name: str) -> dict[str, list[int]]:
    """Names and shapes of the official weights of a full network."""
    return json.loads((folder / 'state_dict_layout.json').read_text())[name]


def recipe_weight(name: str, shape: Sequence[int], seed: int) -> Tensor:
    """What the recipe in the README of the vectors says a weight of a full network is."""
    if name.endswith('num_batches_tracked'):
        return torch.zeros(tuple(shape), dtype=torch.long)
    rs = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    if name.endswith('running_var'):
        return torch.from_numpy((0.5 + rs.random_sample(shape)).astype(np.float32))
    draws = rs.standard_normal(shape)
    if name.endswith('running_mean'):
        draws *= 0.1
    elif 'pos_embed' in name or name.endswith('_token'):
        draws *= 0.5
    elif len(shape) > 1:
        draws *= np.sqrt(1 / np.prod(shape[1:]))
    else:
        draws = 0.1 * draws + (0 if name.endswith('bias') else 1)
    return torch.from_numpy(draws.astype(np.float32))


def relative(actual: Tensor, expected: np.ndarray) -> float:
    """Largest difference over the largest expected value."""
    expected = torch.as_tensor(expected)
    return float((actual.detach().to(expected.dtype) - expected).abs().max() / expected.abs().max())


def assert_relative(actual: Tensor, expected: np.ndarray, limit: float) -> None:
    """Assert equal shapes and a :func:`relative` difference below ``limit``."""
    assert actual.shape == expected.shape
    assert relative(actual, expected) < limit
