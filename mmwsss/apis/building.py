"""What is wrong with a config whose parts cannot be built."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from mmengine.registry import Registry, build_from_cfg

from .config_names import nearest

_UNKNOWN = re.compile(r"got an unexpected keyword argument '(\w+)'$")
_MISSING = re.compile(r'missing \d+ required (?:positional|keyword-only) arguments?: (.+)$')
_PACKAGE = str(Path(__file__).resolve().parents[1])


def config_mistake(error: BaseException) -> str | None:
    """One line for a mistake in a part of a config that a registry was to build; None for other errors.

    These are a ``type`` that is not registered, settings that the type does not know or lacks, and those that its
    ``__init__`` refuses.
    """
    frames = list(_frames(error.__traceback__))
    builds = [index for index, frame in enumerate(frames) if frame.f_code is build_from_cfg.__code__]
    if not builds:
        return None
    build, inside = frames[builds[-1]].f_locals, frames[builds[-1] + 1 :]
    name = _name(build.get('obj_type'))
    if isinstance(error, KeyError) and build.get('obj_cls') is None and 'obj_type' in build:
        registry = build['registry']
        return f'type {name} is not in the registry of {_kind(registry)}{nearest(name, _registered(registry))}'
    if any(frame.f_code.co_name != '__init__' for frame in inside[:1]):
        return None  # it was called
    if isinstance(error, TypeError) and all(frame.f_code.co_name == '__init__' for frame in inside):
        if found := _UNKNOWN.search(str(error)):
            return f'{name} has no setting {found[1]}{nearest(found[1], _settings(build["obj_cls"]))}'
        if found := _MISSING.search(str(error)):
            return f'{name} lacks the setting {found[1]}'
    if isinstance(error, ValueError) and inside and inside[-1].f_code.co_filename.startswith(_PACKAGE):
        text = str(error)
        return text if name in text else f'{name}: {text}'
    return None


def _frames(traceback: TracebackType | None) -> Iterator[FrameType]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _name(kind: Any) -> str:
    return kind if isinstance(kind, str) else getattr(kind, '__name__', str(kind))


def _kind(registry: Registry) -> str:
    return f'{registry.name}s' if not registry.name.endswith('s') else registry.name


def _registered(registry: Registry) -> set[str]:
    """Names in ``registry`` and those it looks into."""
    names = set(registry.module_dict)
    while registry.parent is not None:
        registry = registry.parent
        names |= set(registry.module_dict)
    return names


def _settings(cls: Any) -> set[str]:
    """Arguments by name of a class, those that it hands on to its bases included."""
    names: set[str] = set()
    for base in inspect.getmro(cls) if inspect.isclass(cls) else (cls,):
        function = base.__dict__.get('__init__') if inspect.isclass(base) else base
        if inspect.isfunction(function):
            names |= {
                parameter.name
                for parameter in inspect.signature(function).parameters.values()
                if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            }
    return names - {'self'}
