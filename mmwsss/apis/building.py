"""What is wrong with a config whose parts cannot be built."""

from __future__ import annotations

import dis
import inspect
import re
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from mmengine.registry import Registry, build_from_cfg

from .config_names import nearest

_UNKNOWN = re.compile(r"([\w.<>]+)\(\) got an unexpected keyword argument '(\w+)'$")
_MISSING = re.compile(r'([\w.<>]+)\(\) missing \d+ required (?:positional|keyword-only) arguments?: (.+)$')
_PACKAGE = __name__.partition('.')[0]


def config_mistake(error: BaseException) -> str | None:
    """One line for a mistake in a part of a config that a registry was to build; None for other errors.

    These are a ``type`` that is not registered, settings that the type does not know or lacks, and those that its
    ``__init__`` refuses.
    """
    calls = list(_calls(error.__traceback__))
    frames = [call.tb_frame for call in calls]
    builds = [index for index, frame in enumerate(frames) if frame.f_code is build_from_cfg.__code__]
    if not builds:
        return None
    build, inside = frames[builds[-1]].f_locals, frames[builds[-1] + 1 :]
    name = _name(build.get('obj_type'))
    if isinstance(error, KeyError) and not inside and build.get('obj_cls', build) is None:
        registry = build['registry']
        return f'type {name} is not in the registry of {_kind(registry)}{nearest(name, _registered(registry))}'
    if isinstance(error, KeyError) and not inside and 'obj_type' not in build:
        found = ', '.join(build['cfg']) or 'nothing'
        return f'one of the {_kind(build["registry"])} has no type, only {found}; set type'
    if any(frame.f_code.co_name != '__init__' for frame in inside[:1]):
        return None  # a function, whose body is no list of settings
    if isinstance(error, TypeError) and all(frame.f_code.co_name == '__init__' for frame in inside):
        # Calls that the type makes of other things are its own mistakes.
        found = _UNKNOWN.search(str(error))
        if found and found[2] in build['args']:
            return f'{name} has no setting {found[2]}{nearest(found[2], _settings(build["obj_cls"]))}'
        found = _MISSING.search(str(error))
        if found and found[1] in _callees(build['obj_cls']):
            return f'{name} lacks the setting {found[2]}'
    if isinstance(error, ValueError) and inside and _is_ours(calls[-1]):
        text = str(error)
        return text if name in text else f'{name}: {text}'
    return None


def _calls(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _is_ours(call: TracebackType) -> bool:
    """Whether a ``raise`` of this package ended ``call``, not a slip such as unpacking too few values."""
    instruction = call.tb_frame.f_code.co_code[call.tb_lasti]
    package = call.tb_frame.f_globals.get('__name__', '').partition('.')[0]
    return package == _PACKAGE and dis.opname[instruction] == 'RAISE_VARARGS'


def _callees(cls: Any) -> set[str]:
    """Names that messages of the interpreter give to the call that makes a ``cls``."""
    if inspect.isclass(cls):
        return {f'{base.__qualname__}.__init__' for base in inspect.getmro(cls)}
    return {getattr(cls, '__qualname__', '')}


def _name(kind: Any) -> str:
    return kind if isinstance(kind, str) else getattr(kind, '__name__', str(kind))


def _kind(registry: Registry) -> str:
    return registry.name if registry.name.endswith('s') else f'{registry.name}s'


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
