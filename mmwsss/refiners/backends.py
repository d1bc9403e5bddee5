"""Which code does the work: torch on any device, or loops compiled by numba on the CPU."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import torch

BACKENDS = ('auto', 'torch', 'numba')


def check_backend(backend: str) -> None:
    """Check the name of a backend.

    Raises:
        ValueError: unknown backend.
    """
    if backend not in BACKENDS:
        raise ValueError(f'backend {backend!r} is none of {", ".join(BACKENDS)}')


def choose_backend(backend: str, device: torch.device) -> str:
    """'torch' or 'numba', for tensors on ``device``.

    Raises:
        ValueError: unknown backend, or numba and a device other than the CPU.
    """
    check_backend(backend)
    if backend == 'auto':
        return 'numba' if device.type == 'cpu' else 'torch'
    if backend == 'numba' and device.type != 'cpu':
        raise ValueError(f"backend 'numba' needs tensors on the CPU, these are on {device}; use 'auto' or 'torch'")
    return backend


def compiled_kernels(name: str, user: str) -> ModuleType:
    """Module ``name`` of compiled kernels of this package, which ``user`` needs.

    Raises:
        ImportError: numba is missing.
    """
    try:
        return import_module(f'.{name}', __package__)
    except ImportError as error:
        raise ImportError(f"{user} on the CPU needs numba ({error}); install it or set backend='torch'") from error
