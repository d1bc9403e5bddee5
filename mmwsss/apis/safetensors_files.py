"""Checkpoints as safetensors files, with what is not a tensor as JSON in their header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.runner.checkpoint import CheckpointLoader

from mmwsss.utils.files import jsonable

from .errors import UsageError

_HEADER = 'mmwsss'  # entry of our files with what is not a tensor


@CheckpointLoader.register_scheme(prefixes=r'(?!.*://).*\.safetensors$', force=True)
def load_from_safetensors(path: str, map_location: Any = None) -> dict[str, Any]:
    """Checkpoint with ``state_dict`` and ``meta`` from a local file, on the CPU; MMEngine reads such files by it too.

    Raises:
        UsageError: the file is missing or broken, or safetensors is not installed.
    """
    library = _safetensors()
    from safetensors import SafetensorError, safe_open

    try:
        state = library.load_file(path)
        with safe_open(path, 'pt') as stream:
            header = stream.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UsageError(f'{path} cannot be read as safetensors ({error}); is it complete?') from error
    try:
        notes = dict(json.loads(header.get(_HEADER, '{}')))
    except (TypeError, ValueError) as error:
        raise UsageError(f'{path}: its entry "{_HEADER}" is not what this package writes ({error})') from error
    return dict(meta=dict(source=Path(path).name)) | notes | dict(state_dict=state)


def pack_safetensors(content: Mapping[str, Any]) -> bytes:
    """Bytes of a file with the ``state_dict`` of ``content`` and, as JSON, all else in it.

    Raises:
        UsageError: safetensors is not installed.
    """
    notes = {key: value for key, value in content.items() if key != 'state_dict'}
    # One entry only, as the library writes several in random order.
    return _safetensors().save(content['state_dict'], {_HEADER: json.dumps(jsonable(notes))})


def _safetensors() -> Any:
    try:
        import safetensors.torch as library
    except ImportError as error:
        raise UsageError('this needs the package safetensors: pip install safetensors') from error
    return library
