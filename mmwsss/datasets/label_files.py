"""Reading label files: ``.npy`` dict, ``.json``, ``.csv`` and ``.txt``."""

from __future__ import annotations

import csv
import json
import os.path as osp
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .checks import DatasetError
from .npy_labels import read_npy

LABEL_SUFFIXES = ('.npy', '.json', '.csv', '.txt')
_FIRST_COLUMN = {'file', 'file_name', 'filename', 'id', 'image', 'image_id', 'img', 'img_id', 'name', 'path'}
_FLAGS = {'0': False, '1': True, '0.0': False, '1.0': True, 'false': False, 'true': True, '': False}


def read_label_file(path: str, class_names: Sequence[str] = ()) -> dict[str, Any]:
    """Entries of a label file by id: a list of class names or a vector, see ``FileLabels``.

    Only names in ``class_names`` may hold spaces in ``.csv`` and ``.txt``.

    Raises:
        DatasetError: the file is missing or does not hold what its ending promises.
    """
    suffix = Path(path).suffix
    if not osp.isfile(path):
        raise DatasetError(f'label file {path} does not exist')
    if suffix == '.npy':
        content = read_npy(path)
    elif suffix == '.json':
        content = read_json(path, unique=True)
    else:
        entries: dict[str, list[str]] = {}
        for _, key, names in _tagged_lines(path, class_names):
            entries.setdefault(key, []).extend(names)
        return entries
    if not isinstance(content, dict):
        raise DatasetError(f'label file {path}: expected a dict from image id to labels, got {type(content).__name__}')
    return {str(key): value for key, value in content.items()}


def used_class_names(path: str) -> list[str] | None:
    """Class names that a label file uses: the columns of a table in their order, otherwise sorted.

    None where vectors stand in their place. The background is no class here.

    Raises:
        DatasetError: see :func:`read_label_file`.
    """
    if Path(path).suffix == '.csv' and (columns := _table_columns(_csv_rows(path))) is not None:
        return [name for name in columns if name != 'background']
    entries = read_label_file(path).values()
    if not all(is_name_list(entry) for entry in entries):
        return None
    return sorted({name for entry in entries for name in entry} - {'background'})


def differing_lines(path: str, class_names: Sequence[str] = ()) -> dict[str, list[int]]:
    """Numbers of the lines of each id that has different tags on several lines; only ``.csv`` and ``.txt`` may.

    Raises:
        DatasetError: see :func:`read_label_file`.
    """
    if Path(path).suffix not in ('.csv', '.txt'):
        return {}
    lines, tags = defaultdict(list), defaultdict(set)
    for number, key, names in _tagged_lines(path, class_names):
        lines[key].append(number)
        tags[key].add(frozenset(names))
    return {key: lines[key] for key, found in tags.items() if len(found) > 1}


def is_name_list(entry: Any) -> bool:
    """Whether an entry of a label file holds class names, not a vector."""
    return isinstance(entry, list | tuple) and all(isinstance(name, str) for name in entry)


def matching_keys(infos: Iterable[dict], entries: Mapping[str, Any]) -> list[str | None]:
    """For each data info the key of its entry in a label file, None where there is none."""
    numbered = all(key.isdecimal() for key in entries)
    return [next((key for key in label_keys(info, numbered) if key in entries), None) for info in infos]


def other_endings(infos: Sequence[dict], keys: Sequence[str | None], entries: Iterable[str]) -> list[str | None]:
    """For each data info without one of ``keys`` the entry that differs from it by its ending only; None elsewhere."""
    if None not in keys:
        return [None] * len(infos)
    by_stem = {key.rpartition('.')[0]: key for key in set(entries).difference(keys)}
    return [
        by_stem.get(info['img_id'], by_stem.get(Path(info['img_path']).stem)) if key is None else None
        for info, key in zip(infos, keys)
    ]


def split_names(text: str, class_names: Sequence[str]) -> list[str]:
    """Class names in ``text``, separated by commas or spaces; the longest known name wins, so names may hold spaces.

    >>> split_names('cat traffic light, dog', ['cat', 'dog', 'traffic light'])
    ['cat', 'traffic light', 'dog']
    """
    found = []
    for part in text.split(','):
        words = part.split()
        start = 0
        while start < len(words):
            ends = range(len(words), start, -1)
            end = next((end for end in ends if ' '.join(words[start:end]) in class_names), start + 1)
            found.append(' '.join(words[start:end]))
            start = end
    return found


def _tagged_lines(path: str, class_names: Sequence[str]) -> Iterator[tuple[int, str, list[str]]]:
    """Number, id and class names of every line of a ``.csv`` or ``.txt`` file."""
    if Path(path).suffix == '.csv':
        yield from _tagged_rows(path, class_names)
        return
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            key, *rest = re.split(r'[,\s]+', line.strip(), maxsplit=1)
            yield number, key, split_names(rest[0] if rest else '', class_names)


def _tagged_rows(path: str, class_names: Sequence[str]) -> Iterator[tuple[int, str, list[str]]]:
    """Rows ``id,names``, or a table with a header of class names over 0 and 1."""
    rows = _csv_rows(path)
    columns = _table_columns(rows)
    has_header = columns is not None or (rows and rows[0][1][0].lower() in _FIRST_COLUMN)
    for number, (key, *cells) in rows[1:] if has_header else rows:
        if columns is None:
            yield number, key, split_names(re.sub('[;|]', ',', ','.join(cells)), class_names)
            continue
        where = f'label file {path}: line {number} ({key})'
        if len(cells) != len(columns):
            raise DatasetError(f'{where} has {1 + len(cells)} cells, the header has {1 + len(columns)}')
        for name, cell in zip(columns, cells):
            if cell.lower() not in _FLAGS:
                raise DatasetError(
                    f'{where}: "{cell}" in the column "{name}" is neither 0 nor 1; '
                    'correct it, or remove the header if the cells are names of classes'
                )
        yield number, key, [name for name, cell in zip(columns, cells) if _FLAGS[cell.lower()]]


def _csv_rows(path: str) -> list[tuple[int, list[str]]]:
    """Line number and cells, without surrounding space, of the rows of a CSV file that are not blank.

    A row without a delimiter is cut at its first space.
    """
    lines = _lines(path)
    first = next((line for line in lines if line.strip()), '')
    delimiter = max(',;\t', key=first.count)
    reader = csv.reader((f'{line}\n' for line in lines), delimiter=delimiter, skipinitialspace=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise DatasetError(f'label file {path}: line {reader.line_num} is no CSV: {error}') from error
    return [(number, row if len(row) > 1 else row[0].split(maxsplit=1)) for number, row in rows if any(row)]


def _table_columns(rows: Sequence[tuple[int, Sequence[str]]]) -> list[str] | None:
    """Class names in the header of a table, of which most cells are 0, 1 or blank; None for other files.

    A header whose first column has an unusual name is known by names that stand over 0 and 1.
    """
    if len(rows) < 2 or len(rows[0][1]) < 2:
        return None
    first, *names = rows[0][1]
    kinds = Counter(cell.lower() in _FLAGS for _, row in rows[1:] for cell in row[1:] if cell)
    if first.lower() in _FIRST_COLUMN:
        is_table = kinds[True] > kinds[False] or not kinds
    else:
        is_table = kinds[True] > kinds[False] and not any(name.lower() in _FLAGS or name.isdecimal() for name in names)
    return names if is_table else None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f'label file {path}: not UTF-8 text ({error.reason}); save it as UTF-8') from error


def read_json(path: str, unique: bool = False) -> Any:
    """Content of a JSON file.

    Args:
        unique: refuse an object with a key that occurs twice, of which JSON would silently keep the last.

    Raises:
        DatasetError: the file is missing or no JSON, or a key is not ``unique``.
    """
    try:
        with open(path, encoding='utf-8-sig') as stream:
            return json.load(stream, object_pairs_hook=_unique if unique else None)
    except FileNotFoundError:
        raise DatasetError(f'label file {path} does not exist') from None
    except UnicodeDecodeError as error:
        raise DatasetError(f'label file {path}: not UTF-8 text ({error.reason}); save it as UTF-8') from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f'label file {path}: not valid JSON: {error}') from error


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f'"{twice}" occurs twice; leave one of them')
    return content


def label_keys(info: dict, numbered: bool) -> list[str]:
    """Names under which a label file may list an image, the most exact first; numbers for a ``numbered`` file.

    Endings may be in upper or lower case, whatever that of the file is.
    """
    path = Path(info['img_path'])
    stems = info['img_id'], path.stem
    exact = [name for stem in stems for name in (stem, stem + path.suffix)]
    other_case = [stem + ending for ending in (path.suffix.lower(), path.suffix.upper()) for stem in stems]
    digits = re.findall(r'\d+', path.stem) if numbered else []
    numbers = [str(int(''.join(digits))), str(int(digits[-1]))] if digits else []
    return [*exact, *other_case, *numbers]
