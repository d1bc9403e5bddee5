"""Checkpoints for others: weights and what they are, without the state of the training; also as safetensors."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmwsss.engine.loops import BEST_STREAM
from mmwsss.utils.files import replacing

from .errors import UsageError
from .safetensors_files import pack_safetensors
from .testing import read_checkpoint

SUFFIXES = ('.pth', '.safetensors')
HASH_LENGTH = 8  # of the part of a published file's name
_HUB = 'message_hub'
_MAX_NAMED = 3


def read_weights(path: str) -> dict[str, Any]:
    """Checkpoint with ``state_dict`` and ``meta`` from a file of torch or safetensors; nothing else is kept.

    Of a training that chose between streams the notes which one was best stay, in ``message_hub``.

    Raises:
        UsageError: there is no such file, or it holds no weights.
    """
    if not Path(path).is_file():
        raise UsageError(f'{path} does not exist')
    content = read_checkpoint(path)
    state = content.get('state_dict', content)
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UsageError(f'{path} is no checkpoint: expected a dict of weights')
    # Copies, as a slice would bring all of its tensor along, and tensors that share memory fit no safetensors file.
    weights = {str(name): value.detach().cpu().contiguous().clone() for name, value in state.items()}
    slim = dict(state_dict=weights, meta=dict(content.get('meta') or {}))
    notes = (content.get(_HUB) or {}).get('runtime_info', {})
    streams = {key: value for key, value in notes.items() if key.split('/')[0] == BEST_STREAM}
    return slim | ({_HUB: dict(runtime_info=streams)} if streams else {})


def check_finite(state: Mapping[str, Tensor], path: str) -> None:
    """Raise UsageError where a weight is infinite or no number; ``path`` is the file they came from."""
    wrong = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if wrong:
        named = ', '.join(wrong[:_MAX_NAMED])
        raise UsageError(f'{path}: weights that are not finite: {named} ({len(wrong)}); the training has diverged')


def pack(content: Mapping[str, Any], suffix: str) -> bytes:
    """Bytes of a file of this ending with the ``content`` of :func:`read_weights`, the same for the same content.

    Raises:
        UsageError: an unknown ending, or safetensors is not installed.
    """
    if suffix == '.safetensors':
        return pack_safetensors(content)
    if suffix != '.pth':
        raise UsageError(f'files of weights end in {" or ".join(SUFFIXES)}, got "{suffix}"')
    stream = io.BytesIO()  # torch writes the name of a file into the file
    torch.save(dict(content), stream)
    return stream.getvalue()


def write_packed(path: str | Path, packed: bytes) -> Path:
    """Write the bytes of a file; it appears whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(packed)
    return Path(path)


def publish(source: str, target: str) -> Path:
    """Write weights and meta of the checkpoint ``source``; returns the file, ``target`` with a part of its hash.

    Raises:
        UsageError: ``source`` is no checkpoint or has weights that are not finite, or ``target`` has an unknown ending.
    """
    path = Path(target)
    content = read_weights(source)
    check_finite(content['state_dict'], source)
    packed = pack(content, path.suffix)
    digest = hashlib.sha256(packed).hexdigest()[:HASH_LENGTH]
    return write_packed(path.with_name(f'{path.stem}-{digest}{path.suffix}'), packed)
