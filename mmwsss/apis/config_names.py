"""Names of the shipped configs, and where the files that come with the package lie."""

from __future__ import annotations

import difflib
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .errors import UsageError

OWN_PREFIX = 'mmwsss::'  # of a shipped config in the files of others
_PACKAGE = Path(__file__).resolve().parents[1]
_NO_MODELS = ('_base_', 'pipelines')
_ALIAS = re.compile(r"^_base_ = '(?:\./)?([^']+)\.py'\s*$")
_DATA = re.compile(r'_\d+xb\d+-[^_]+_(?P<data>.+?)(?:-pseudo_|-)\d+x\d+')


@dataclass(frozen=True)
class ConfigEntry:
    """One config that a model can be built from.

    Args:
        name: the shortest that no other config has, such as ``vitpcm_voc``; where two folders share a file name, it is
            ``folder/name``.
        path: of the file.
        method, data: what the file name of the canonical config says.
    """

    name: str
    path: Path
    method: str
    data: str


@cache
def resource_root() -> Path:
    """Folder of ``configs`` and ``tools``: ``mmwsss/.mim`` of an installed wheel, otherwise the root of the checkout.

    Raises:
        UsageError: neither is there.
    """
    for root in (_PACKAGE / '.mim', _PACKAGE.parent):
        if (root / 'configs' / '_base_').is_dir():
            return root
    raise UsageError(f'no configs beside the package {_PACKAGE}; install mmwsss from its wheel or from a checkout')


def list_models(pattern: str = '') -> list[str]:
    """Names of the shipped configs that contain ``pattern``, as ``WSSSInferencer`` and the tools take them."""
    return [entry.name for entry in config_entries(pattern)]


def config_entries(pattern: str = '') -> list[ConfigEntry]:
    """Shipped configs whose name contains ``pattern``: the short names first, then by folder."""
    return [entry for entry in _entries() if pattern in entry.name]


def find_config(name: str) -> str:
    """Path of a config: ``name`` itself where that is a file, otherwise that of the shipped config of this name.

    ``vitpcm_voc`` and ``vitpcm/vitpcm_vit-b16_4xb16-13k_voc12aug-384x384`` are such names; they have no ``.py``. A
    config inherits from a shipped one by ``_base_ = 'mmwsss::vitpcm_voc.py'``.

    Raises:
        UsageError: there is no such file, nor such a name, or several configs have it.
    """
    if os.path.isfile(name):
        return name
    path = Path(name)
    if path.suffix == '.py':
        siblings = [entry.name for entry in path.parent.glob('*.py')] if path.parent.is_dir() else []
        raise UsageError(f'config {name} does not exist{nearest(path.name, siblings)}')
    return shipped_config(name)


def shipped_config(name: str) -> str:
    """Path of the shipped config of this name, see :func:`find_config`, whatever files the current folder has.

    Also written as in ``_base_``: ``mmwsss::vitpcm_voc.py``.

    Raises:
        UsageError: there is none, or several configs have the name.
    """
    name = name.removeprefix(OWN_PREFIX).removesuffix('.py')
    shipped = resource_root() / 'configs' / f'{name}.py'
    if shipped.is_file():
        return str(shipped)
    found = [entry for entry in _entries() if entry.path.stem == name]
    if len(found) == 1:
        return str(found[0].path)
    if found:
        raise UsageError(f'config {name} is the name of several; say {" or ".join(entry.name for entry in found)}')
    raise UsageError(f'config {name} does not exist{nearest(name, list_models())}; see mmwsss list')


def nearest(name: str, names: Iterable[str]) -> str:
    """The ``names`` most like ``name``, as the end of a message; empty where none is."""
    close = difflib.get_close_matches(name, sorted(names), n=3)
    return f'; nearest: {", ".join(close)}' if close else ''


@cache
def _entries() -> tuple[ConfigEntry, ...]:
    configs = resource_root() / 'configs'
    paths = [*sorted(configs.glob('*.py')), *sorted(configs.glob('*/*.py'))]
    paths = [path for path in paths if path.parent.name not in _NO_MODELS]
    owners = defaultdict(list)
    for path in paths:
        owners[path.stem].append(path)
    entries = []
    for path in paths:
        relative = path.relative_to(configs).with_suffix('')
        target = _aliased(path).stem
        data = _DATA.search(target)
        entries.append(
            ConfigEntry(
                name=path.stem if len(owners[path.stem]) == 1 else relative.as_posix(),
                path=path,
                method=target.split('_')[0],
                data=data['data'] if data else '',
            )
        )
    return tuple(entries)


def _aliased(path: Path) -> Path:
    """The config that the file ``path`` is another name of, otherwise itself."""
    alias = _ALIAS.match(path.read_text(encoding='utf-8'))
    return Path(alias[1]) if alias else path
