"""Label files of strangers: nothing in them is run, and what is damaged or doubled is refused."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mini_voc import CLASSES, LABELS

from mmwsss.datasets import DatasetError, WeakVOCDataset
from mmwsss.datasets.label_files import read_label_file

VECTORS = {name: np.isin(np.arange(1, 21), indices).astype(np.float32) for name, indices in LABELS.items()}


def header_of(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
    return stream.getvalue()


OBJECT_HEADER = header_of(np.array(None, dtype=object))


def as_npy(content: Any, protocol: int = 4) -> bytes:
    """The file of ``numpy.save(content, allow_pickle=True)`` at any protocol of pickle."""
    return OBJECT_HEADER + pickle.dumps(np.array(content, dtype=object), protocol)


@pytest.mark.parametrize('protocol', [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize('kind', ['float32', 'float64', 'uint8', '>i4', 'bool'])
def test_dicts_of_arrays(tmp_path: Path, protocol: int, kind: str) -> None:
    path = tmp_path / 'labels.npy'
    expected = {name: vector.astype(kind) for name, vector in VECTORS.items()}
    path.write_bytes(as_npy(expected, protocol))
    found = read_label_file(str(path))
    assert found.keys() == expected.keys()
    for name, vector in expected.items():
        assert np.array_equal(found[name], vector)
        assert found[name].dtype == vector.dtype


def test_other_forms(tmp_path: Path) -> None:
    path = tmp_path / 'labels.npy'
    content = {
        'names': ['cat', 'dog'],
        'list': [0, 1],
        7: np.asfortranarray(np.arange(6).reshape(2, 3)),
        'scalar': np.float32(1),
        'empty': [],
    }
    np.save(path, content, allow_pickle=True)
    found = read_label_file(str(path))
    assert found.pop('7').tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found == {'names': ['cat', 'dog'], 'list': [0, 1], 'scalar': 1.0, 'empty': []}
    path.write_bytes(as_npy(OrderedDict(a=np.ones(2))))
    assert read_label_file(str(path))['a'].tolist() == [1, 1]
    # As Python 2 wrote it: the old names of numpy's modules, and bytes for text.
    old = pickle.dumps(np.array({'a': np.ones(2)}, dtype=object), 2).replace(b'numpy._core.', b'numpy.core.')
    path.write_bytes(OBJECT_HEADER + old)
    assert read_label_file(str(path))['a'].tolist() == [1, 1]


class Calls:
    """Pickles as a call of ``function`` with ``args``."""

    def __init__(self, function: Callable, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple:
        return self.call


def _attacks(target: str) -> dict[str, bytes]:
    make = Calls(eval, f"open({target!r}, 'w').close()")
    system = f'cos\nsystem\n(S{f"touch {target}"!r}\ntR.'.encode()
    state = (1, (), 'O', False, [make])
    return {
        'in the dict': as_npy({'a_01': make}),
        'in an array': as_npy({'a_01': np.array([make, 1], dtype=object)}),
        'as the id': as_npy({('x', make): 1}),
        'in place of the array': OBJECT_HEADER + pickle.dumps(make),
        'by name': OBJECT_HEADER + system,
        'behind the content': OBJECT_HEADER + pickle.dumps({'a': 1})[:-1] + b'0' + system,
        'through numpy': OBJECT_HEADER + b'cnumpy.testing._private.utils\nrunstring\n(S"1"\n}tR.',
        'through numpy.load': OBJECT_HEADER + b'cnumpy\nload\n(S"x"\ntR.',
        'through the state': OBJECT_HEADER + pickle.dumps(Calls(np.ndarray, state)),
        'inst': OBJECT_HEADER + f'(S{f"touch {target}"!r}\nios\nsystem\n.'.encode(),
    }


@pytest.mark.parametrize('name', _attacks(''))
def test_nothing_is_run(tmp_path: Path, voc: Path, name: str) -> None:
    target, path = tmp_path / 'was_here', voc / 'bad.npy'
    path.write_bytes(_attacks(str(target))[name])
    with pytest.raises(DatasetError, match=r'label file .*bad\.npy: \S.*; expected a dict of arrays'):
        WeakVOCDataset(
            'split.txt', data_root=str(voc), pipeline=[], label_source=dict(type='FileLabels', path='bad.npy')
        )
    assert not target.exists()


def test_attacks_would_work_otherwise(tmp_path: Path) -> None:
    target = tmp_path / 'was_here'
    (tmp_path / 'bad.npy').write_bytes(_attacks(str(target))['in the dict'])
    np.load(tmp_path / 'bad.npy', allow_pickle=True)
    assert target.exists()


def test_a_file_cannot_change_how_the_next_one_is_read(tmp_path: Path) -> None:
    # Sets attributes of the class that stands for numpy.dtype.
    bad = OBJECT_HEADER + b'cnumpy\ndtype\n(NcBUILD\n' + b'.'
    poison = OBJECT_HEADER + b"cnumpy\ndtype\n(N}S'of_numbers'\nI7\nstb."
    for number, content in enumerate((bad, poison)):
        path = tmp_path / f'{number}.npy'
        path.write_bytes(content)
        with pytest.raises(DatasetError):
            read_label_file(str(path))
    good = tmp_path / 'good.npy'
    good.write_bytes(as_npy(VECTORS))
    assert np.array_equal(read_label_file(str(good))['a_01'], VECTORS['a_01'])


def _damaged() -> dict[str, bytes]:
    whole = as_npy(VECTORS)
    loop: dict = {}
    loop['a'] = [loop]
    return {
        'empty': b'',
        'text': b'a_01 cat\n',
        'cut': whole[:-30],
        'header alone': OBJECT_HEADER,
        'unknown version': whole[:6] + b'\x09\x00' + whole[8:],
        'array of numbers': header_of(np.ones(3)) + np.ones(3).tobytes(),
        'array of numbers that is cut': header_of(np.ones(3)) + b'1234',
        'huge array of numbers': header_of(np.broadcast_to(np.ones(1), (2**40,))) + b'1234',
        'strings': as_npy({'a': np.array(['cat'])}),
        'times': as_npy({'a': np.array(['2000-01-01'], dtype='datetime64[D]')}),
        'records': as_npy({'a': np.zeros(2, dtype=[('x', 'i4')])}),
        'objects': as_npy({'a': np.array([1, 'x'], dtype=object)}),
        'a set': as_npy({'a': {1, 2}}),
        'a dict': as_npy({'a': {'b': 1}}),
        'nothing': as_npy({'a': None}),
        'itself': as_npy(loop),
        'a list': as_npy([1, 2]),
        'wrong size': as_npy(VECTORS).replace(b'K\x14\x85', b'K\x15\x85', 1),
    }


@pytest.mark.parametrize('name', _damaged())
def test_damaged_arrays(tmp_path: Path, name: str) -> None:
    (tmp_path / 'labels.npy').write_bytes(_damaged()[name])
    with pytest.raises(DatasetError, match=r'label file .*labels\.npy: .*expected a dict'):
        read_label_file(str(tmp_path / 'labels.npy'))


def test_every_wrong_byte_is_an_error_or_harmless(tmp_path: Path) -> None:
    whole, path = as_npy({'a': np.ones(3, np.float32), 'b': ['cat']}), tmp_path / 'labels.npy'
    random = np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(whole)
        for place in random.integers(len(whole), size=random.integers(1, 4)):
            content[place] = random.integers(256)
        path.write_bytes(bytes(content))
        try:
            found = read_label_file(str(path))
        except DatasetError:
            continue
        assert all(isinstance(entry, np.ndarray | list | tuple | str | int | float) for entry in found.values())


TEXTS = {
    'json twice': ('labels.json', '{"a_01": ["cat"], "a_01": ["dog"]}', '"a_01" occurs twice'),
    'json cut': ('labels.json', '{"a_01": ["cat"', 'not valid JSON'),
    'json deep': ('labels.json', '[' * 100000, 'not valid JSON'),
    'json list': ('labels.json', '["a_01"]', 'expected a dict'),
    'json empty': ('labels.json', '', 'not valid JSON'),
    'csv cells': ('labels.csv', 'image,cat,dog\na_01,1,0\na_02,1\n', 'has 2 cells'),
}


@pytest.mark.parametrize('name', TEXTS)
def test_texts_that_do_not_work(tmp_path: Path, name: str) -> None:
    file, content, message = TEXTS[name]
    (tmp_path / file).write_text(content)
    with pytest.raises(DatasetError, match=message):
        read_label_file(str(tmp_path / file))


@pytest.mark.parametrize('file', ['names.json', 'labels.csv', 'labels.txt'])
@pytest.mark.parametrize('end', ['\n', '\r\n'])
@pytest.mark.parametrize('mark', ['', '\ufeff'])
def test_line_ends_and_marks(voc: Path, file: str, end: str, mark: str) -> None:
    text = (voc / file).read_text()
    (voc / file).write_bytes((mark + text.replace('\n', end) + 2 * end).encode())
    source = dict(type='FileLabels', path=file)
    data = WeakVOCDataset('split.txt', data_root=str(voc), pipeline=[], label_source=source)
    assert np.array_equal(data.image_label_matrix(), np.stack(list(VECTORS.values())))


@pytest.mark.parametrize('file', ['names.json', 'labels.csv', 'labels.txt'])
def test_text_of_another_encoding(voc: Path, file: str) -> None:
    (voc / file).write_bytes('a_01,Kätzchen'.encode('latin1'))
    with pytest.raises(DatasetError, match=f'{file}: not UTF-8 text'):
        read_label_file(str(voc / file), CLASSES)
