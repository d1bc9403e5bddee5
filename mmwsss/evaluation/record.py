"""``metrics.json``: the scores of one evaluation together with everything needed to repeat it."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

import mmwsss
from mmwsss.compat import has_compiled_ops

_TAGS = '+tags'
_MODULES = ('torch', 'numpy', 'mmengine', 'mmcv', 'mmseg', 'mmpretrain', 'mmwsss', 'cv2')


def write_metrics_json(
    path: str | os.PathLike,
    metrics: Mapping[str, float],
    cfg: Config,
    checkpoint: str | os.PathLike | None,
    seed: int | None,
    per_class: Mapping[str, Mapping[str, float]] | None = None,
    protocol: str | None = None,
) -> Path:
    """Write scores, protocol, config, checkpoint, git revision, versions, seed, date and device as one JSON file.

    The file appears whole or not at all; nan becomes null. ``config.sha256`` is that of the text which
    ``cfg.dump('x.py')`` writes. Without ``protocol`` it is derived by :func:`protocol_from_scores`.

    Returns:
        The path of the file; missing folders are made.
    """
    record = {
        'scores': metrics,
        'per_class': per_class or {},
        'protocol': protocol if protocol is not None else protocol_from_scores(metrics),
        'config': {
            'filename': cfg.filename,
            'sha256': hashlib.sha256(cfg.pretty_text.encode()).hexdigest(),
        },
        'checkpoint': None if checkpoint is None else os.fspath(checkpoint),
        'seed': seed,
        'git': git_revision(),
        'versions': versions(),
        'device': device_name(),
        'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
    }
    text = json.dumps(_jsonable(record), indent=2, ensure_ascii=False, allow_nan=False) + '\n'
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        temporary.write_text(text, encoding='utf-8')
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def protocol_from_scores(metrics: Mapping[str, float], scales: str = 'single scale') -> str:
    """Protocol in words, read from the score names: which of them used ground-truth image labels.

    >>> protocol_from_scores({'seg_mIoU': 50.0, 'maps_mIoU+tags': 60.0})
    'single scale; image labels used for: maps'
    """
    names = [name.rsplit('/', 1)[-1] for name in metrics]
    parts = dict.fromkeys(name.split('_')[0] for name in names if name.endswith(_TAGS))
    return f'{scales}; image labels used for: {", ".join(parts) or "nothing"}'


def git_revision() -> dict[str, Any] | None:
    """``{'revision': sha, 'dirty': bool}`` of the checkout the package runs from, None outside of one."""
    package = Path(mmwsss.__file__).resolve()
    # A package in site-packages may lie inside somebody else's repository, which does not track it.
    if _git(package.parent, 'ls-files', '--error-unmatch', package.name) is None:
        return None
    revision = _git(package.parent, 'rev-parse', 'HEAD')
    if revision is None:
        return None
    return {'revision': revision, 'dirty': bool(_git(package.parent, 'status', '--porcelain'))}


def versions() -> dict[str, str | bool]:
    """Versions of Python and of the libraries a score depends on; ``mmcv_ops`` tells full mmcv from mmcv-lite."""
    found: dict[str, str | bool] = {'python': platform.python_version()}
    found |= {name: importlib.import_module(name).__version__ for name in _MODULES}
    found['mmcv_ops'] = has_compiled_ops()
    return found


def device_name() -> str:
    """Name of the current CUDA device, or the processor with the number of threads torch uses."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'cpu ({platform.machine()}, {torch.get_num_threads()} threads)'


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(['git', '-C', str(folder), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(entry) for entry in value]
    if hasattr(value, 'item') and callable(value.item):  # numpy and torch scalars
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
