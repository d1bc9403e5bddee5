"""Reading ``.npy`` label files without running what is in them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from .checks import DatasetError, one_line

_NUMBERS = re.compile(r'[<>|=]?(b1|[iu][1248]|f[248])')


def read_npy(path: str) -> Any:
    """Content of a ``.npy`` file: an array of numbers, or the one object that it holds as a pickle.

    Such an object, as ``cls_labels_onehot.npy`` of many releases is, may be made of dicts, lists, strings, numbers and
    arrays of numbers. Nothing else is built and no function of the file is called; numpy itself does not unpickle.

    Raises:
        DatasetError: the file is damaged, or holds something else.
    """
    try:
        with open(path, 'rb') as stream:
            version = np.lib.format.read_magic(stream)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read_header is None:
                raise ValueError(f'version {version} of the format is not known')
            _, _, dtype = read_header(stream)
            if dtype.hasobject:
                return _plain(_Reader(stream, encoding='latin1').load())
        return np.load(path, allow_pickle=False)
    except Exception as error:  # whatever a damaged file makes numpy and pickle raise, which is of many kinds
        raise DatasetError(
            f'label file {path}: {one_line(error)}; expected a dict of arrays saved with numpy.save, or use .json'
        ) from error


class _Type:
    """Stands for a class that a pickle names but that is never called."""


class _NumberType:
    """What a pickle says about the type of numbers; takes the place of ``numpy.dtype``."""

    def __init__(self, code: Any, *flags: Any) -> None:
        self.code = code.decode('latin1') if isinstance(code, bytes) else str(code)

    def __setstate__(self, state: tuple) -> None:
        order = state[1] if len(state) > 1 else None
        if order in ('<', '>'):
            self.code = order + self.code.lstrip('<>|=')

    @property
    def of_numbers(self) -> np.dtype:
        if not _NUMBERS.fullmatch(self.code):
            raise ValueError(f'arrays of type {self.code!r} are not read')
        return np.dtype(self.code)


class _Array:
    """What a pickle says about an array; takes the place of ``numpy.ndarray``."""

    def __init__(self) -> None:
        self.value: Any = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, number_type, is_fortran, content = state
        if isinstance(content, list):  # an array of Python objects; numpy.save wraps a dict into one
            if tuple(shape) != () or len(content) != 1:
                raise ValueError('arrays of Python objects are not read')
            self.value = content[0]
        else:
            self.value = _numbers(content, number_type, shape, 'F' if is_fortran else 'C')


def _numbers(content: Any, number_type: _NumberType, shape: Any, order: Any = 'C') -> np.ndarray:
    content = content.encode('latin1') if isinstance(content, str) else bytes(content)
    return np.frombuffer(content, number_type.of_numbers).reshape(shape, order='F' if order == 'F' else 'C').copy()


def _wrapped(*args: Any) -> _Array:
    array = _Array()
    array.value = _numbers(*args)
    return array


def _scalar(number_type: _NumberType, content: Any) -> Any:
    return _numbers(content, number_type, ()).item()


def _encode(text: str, encoding: str = 'latin1') -> bytes:
    if encoding not in ('latin1', 'latin-1'):
        raise ValueError(f'text in {encoding!r} is not read')
    return text.encode('latin1')


class _Reader(pickle.Unpickler):
    """Unpickler for which every name in the file is one of few, and none leads to code outside of this module."""

    NAMES: ClassVar[dict[str, Callable]] = {
        'multiarray._reconstruct': lambda *args: _Array(),
        'multiarray.scalar': _scalar,
        'numeric._frombuffer': _wrapped,
        'ndarray': _Type,
        'dtype': _NumberType,
    }
    OTHERS: ClassVar[dict[str, Callable]] = {'_codecs.encode': _encode, 'collections.OrderedDict': dict}

    def find_class(self, module: str, name: str) -> Callable:
        full = f'{module}.{name}'
        inside = re.sub(r'^numpy\.(_?core\.)?', '', full)
        found = self.OTHERS.get(full) if inside == full else self.NAMES.get(inside)
        if found is None:
            raise pickle.UnpicklingError(f'it asks for {full}, which could run code, and was not read')
        if found is dict:
            return dict
        # A pickle may set attributes of whatever it gets, so it gets something of its own.
        return type(name, (found,), {}) if isinstance(found, type) else lambda *args: found(*args)

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError('it refers to something outside of the file')


def _plain(content: Any) -> Any:
    """What :class:`_Reader` read, with arrays in the place of what stands for them.

    Raises:
        ValueError: it is more than an array, or a dict of arrays, lists, strings and numbers.
    """
    if isinstance(content, _Array):
        content = content.value
    if not isinstance(content, dict):
        return _entry(content)
    for key in content:
        if not isinstance(key, str | int):
            raise ValueError(f'ids have to be text or numbers, got {_kind(key)}')
    return {key: _entry(entry) for key, entry in content.items()}


def _entry(value: Any) -> Any:
    if isinstance(value, _Array):
        value = value.value
    parts = value if isinstance(value, list | tuple) else [value]
    if isinstance(value, np.ndarray) or all(isinstance(part, str | int | float) for part in parts):
        return value
    raise ValueError(f'{_kind(next(part for part in parts if not isinstance(part, str | int | float)))} is not read')


def _kind(value: Any) -> str:
    return type(value).__name__.strip('_')
