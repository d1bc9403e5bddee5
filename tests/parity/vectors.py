"""Finding the parity vectors of a method and remembering which files have a test."""

from __future__ import annotations

import os
from collections import defaultdict
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch

PARITY_DIR = Path(os.environ.get('MMWSSS_PARITY_DIR', Path(__file__).resolve().parents[3] / 'shared' / 'parity'))
NOT_VECTORS = ('README.md', '_index.json', 'manifest.json')
PATTERNS: dict[str, list[str]] = defaultdict(list)


def vectors(method: str, pattern: str) -> pytest.MarkDecorator:
    """Run a test once per file of ``method`` that matches ``pattern`` (argument ``path``); skip where there is none."""
    PATTERNS[method].append(pattern)
    files = sorted((PARITY_DIR / method).glob(pattern))
    if files:
        return pytest.mark.parametrize('path', files, ids=[file.stem for file in files])
    reason = f'no {pattern} in {PARITY_DIR / method}; MMWSSS_PARITY_DIR names the folder of parity vectors'
    return pytest.mark.parametrize('path', [pytest.param(None, marks=pytest.mark.skip(reason=reason))])


def untested_files(method: str) -> list[str]:
    """Names of the vector files of ``method`` that no test asked for."""
    names = (file.name for file in sorted((PARITY_DIR / method).iterdir()) if file.name not in NOT_VECTORS)
    return [name for name in names if not any(fnmatch(name, pattern) for pattern in PATTERNS[method])]


def load(path: Path) -> dict[str, np.ndarray]:
    """All arrays of one file."""
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def tensor(array: np.ndarray) -> torch.Tensor:
    """Array as a tensor of the same layout."""
    return torch.from_numpy(np.ascontiguousarray(array))


def planes(array: np.ndarray) -> torch.Tensor:
    """Channel-last (..., H, W, C) array as a channel-first tensor."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, -3)))


def close(actual: torch.Tensor, expected: np.ndarray | torch.Tensor, atol: float = 0.0, rtol: float = 0.0) -> None:
    """Assert closeness of values and equality of shapes."""
    expected = torch.as_tensor(expected)
    torch.testing.assert_close(actual.detach().to(expected.dtype), expected, atol=atol, rtol=rtol)
