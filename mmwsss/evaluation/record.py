"""``metrics.json``: the scores of one evaluation together with everything needed to repeat it."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

import mmwsss
from mmwsss.compat import has_compiled_ops
from mmwsss.pseudo_labels.crop_views import crop_views
from mmwsss.utils.files import jsonable, write_json

from .protocols import protocol_of_score

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
        'config': {'filename': cfg.filename, 'sha256': config_sha256(cfg)},
        'checkpoint': None if checkpoint is None else os.fspath(checkpoint),
        'seed': seed,
        **circumstances(),
    }
    return write_json(path, record)


def settings_sha256(settings: Any) -> str:
    """Hexadecimal SHA-256 of a part of a config; the order of its keys does not matter."""
    return hashlib.sha256(json.dumps(jsonable(settings), sort_keys=True, default=repr).encode()).hexdigest()


def config_sha256(cfg: Config) -> str:
    """Hexadecimal SHA-256 of the text which ``cfg.dump('x.py')`` writes."""
    return hashlib.sha256(cfg.pretty_text.encode()).hexdigest()


def circumstances(device: str | torch.device | None = None) -> dict[str, Any]:
    """Git revision, versions, device (see :func:`device_name`) and date (UTC) of a result made now."""
    return {
        'git': git_revision(),
        'versions': versions(),
        'device': device_name(device),
        'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
    }


def protocol_from_scores(
    metrics: Iterable[str], scales: str | None = None, settings: Mapping[str, Any] | None = None
) -> str:
    """Protocol in words, read from the score names: which views were used, and for what ground-truth image labels.

    Args:
        metrics: names of scores, or a mapping from them.
        scales: what to say about the views; by default those of ``settings``, or 'several scales' where a score of a
            protocol with 'ms' is among ``metrics``.
        settings: ``test_cfg`` of the model: ``views`` (not used by scores of protocols, which have their own),
            ``stream`` and ``cam_head`` are told where they are set.

    >>> protocol_from_scores({'seg_mIoU': 50.0, 'maps_mIoU+tags': 60.0})
    'single scale; image labels used for: maps'
    >>> protocol_from_scores({'ss_mIoU': 50.0, 'ms+flip+tags_mIoU': 60.0}, 'ms at scales 0.5, 1')
    'ms at scales 0.5, 1; protocols: ss, ms+flip+tags; image labels used for: ms+flip+tags'
    >>> protocol_from_scores({'seg_mIoU': 50.0}, settings=dict(views=dict(scales=(1, 0.5), flip=True), stream='online'))
    'scales 1, 0.5 with mirror images; image labels used for: nothing; stream: online'
    """
    settings = settings or {}
    names = [name.rsplit('/', 1)[-1] for name in metrics]
    protocols = [protocol for name in names if (protocol := protocol_of_score(name)) is not None]
    used = [name.split('_')[0] for name in names if name.endswith(_TAGS)]
    used += [protocol.name for protocol in protocols if protocol.tags]
    if scales is None:
        several = any(protocol.multi_scale for protocol in protocols)
        scales = 'several scales' if several else views_in_words(None if protocols else settings.get('views'))
    parts = [scales]
    if protocols:
        parts.append(f'protocols: {", ".join(protocol.name for protocol in protocols)}')
    parts.append(f'image labels used for: {", ".join(dict.fromkeys(used)) or "nothing"}')
    if settings.get('stream'):
        parts.append(f'stream: {settings["stream"]}')
    if settings.get('cam_head'):
        parts.append(f'maps of {settings["cam_head"]}')
    return '; '.join(parts)


def views_in_words(views: Mapping[str, Any] | None) -> str:
    """The option ``test_cfg.views`` of a segmentor in words, None being the image as it comes.

    >>> views_in_words(dict(scales=(1.0, 0.5), flip=True))
    'scales 1, 0.5 with mirror images'
    """
    if (crops := crop_views(views)) is not None:
        return crops.in_words()
    scales = [f'{scale:g}' for scale in (views or {}).get('scales', (1,))]
    words = 'single scale' if scales == ['1'] else f'scales {", ".join(scales)}'
    return f'{words} with mirror images' if (views or {}).get('flip', False) else words


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


def device_name(device: str | torch.device | None = None) -> str:
    """Name of ``device``, a CPU with the number of threads torch uses; None is the current GPU or else the CPU."""
    if device is None:
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    device = torch.device(device)
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    if device.type != 'cpu':
        return str(device)
    return f'cpu ({platform.machine()}, {torch.get_num_threads()} threads)'


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(['git', '-C', str(folder), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
