"""Reading the weights that the official programs of other projects save."""

from __future__ import annotations

import pickle
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def read_state_dict(path: str | Path, what: str, wrappers: Sequence[str] = ()) -> dict[str, Tensor]:
    """Read a state dict from a file, plain or inside of dicts; nothing in the file is executed.

    Args:
        path: torch file.
        what: the program that saves such files, for messages.
        wrappers: keys under which a state dict may lie, outer ones first; each may be missing.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no torch file, holds other objects than tensors, or is no state dict.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'no checkpoint at {path}')
    try:
        state: Any = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged or hostile file fails in any way inside the unpickler
        foreign = re.search(r'GLOBAL (\S+)', str(error)) if isinstance(error, pickle.UnpicklingError) else None
        found = f'holds {foreign[1]}' if foreign else f'cannot be read ({type(error).__name__})'
        raise ValueError(f'{path} {found}; expected a torch file of tensors') from error
    for wrapper in wrappers:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f'{path} is no state dict; expected the weights that {what} saves')
    return dict(state)


def read_pmm_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read a file of PMM's release or of SEAM, see :func:`read_state_dict`.

    Names lose the prefix of distributed training.
    """
    state = read_state_dict(path, 'the official training of PMM', ('state_dict', 'model', 'main'))
    return {re.sub(r'^(module\.)+', '', name): value for name, value in state.items()}


def refuse_unknown(names: Sequence[str], what: str) -> None:
    """Refuse a file with weights of layers that ``what`` does not have.

    Raises:
        ValueError: there are ``names`` of such weights.
    """
    if names:
        found = f'{", ".join(names[:3])} ({len(names)})'
        raise ValueError(f'weights of unknown layers: {found}; is this {what}?')


def require_layers(names: Collection[str], layers: Mapping[str, str], num_given: int, what: str) -> None:
    """Refuse a file that lacks a whole layer.

    Args:
        names: of the weights that were found.
        layers: how names of each layer begin, by its official name.
        num_given: number of weights in the file, for messages.
        what: the network that a file should have, for messages.

    Raises:
        ValueError: there is no weight of a layer.
    """
    for layer, start in layers.items():
        if not any(name.startswith(start) for name in names):
            raise ValueError(f'no weights of {layer} among the {num_given} given; is this {what}?')
