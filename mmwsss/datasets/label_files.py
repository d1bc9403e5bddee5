"""Reading label files: ``.npy`` dict, ``.json``, ``.csv`` and ``.txt``."""

from __future__ import annotations

import csv
import json
import os.path as osp
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .checks import DatasetError
from .npy_labels import read_npy

LABEL_SUFFIXES = ('.npy', '.json', '.csv', '.txt')
_FIRST_COLUMN = {'file', 'file_name', 'filename', 'id', 'image', 'image_id', 'img', 'img_id', 'name', 'path'}
_FLAGS = {'0': False, '1': True, '0.0': False, '1.0': True, '': False}


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
    elif suffix == '.csv':
        return _read_csv(path, class_names)
    else:
        return _read_label_lines(path, class_names)
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


def is_name_list(entry: Any) -> bool:
    """Whether an entry of a label file holds class names, not a vector."""
    return isinstance(entry, list | tuple) and all(isinstance(name, str) for name in entry)


def matching_keys(infos: Iterable[dict], entries: Mapping[str, Any]) -> list[str | None]:
    """For each data info the key of its entry in a label file, None where there is none."""
    numbered = all(key.isdecimal() for key in entries)
    return [next((key for key in label_keys(info, numbered) if key in entries), None) for info in infos]


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


def _read_csv(path: str, class_names: Sequence[str]) -> dict[str, list[str]]:
    """Rows ``id,names``, or a table with a header of class names over 0 and 1."""
    rows = _csv_rows(path)
    columns = _table_columns(rows)
    entries: dict[str, list[str]] = {}
    for number, row in enumerate(rows, start=1):
        if number == 1 and row[0].lower() in _FIRST_COLUMN:
            continue
        if columns is None:
            names = split_names(re.sub('[;|]', ',', ','.join(row[1:])), class_names)
        elif len(row) == 1 + len(columns):
            names = [name for name, cell in zip(columns, row[1:]) if _FLAGS[cell]]
        else:
            raise DatasetError(
                f'label file {path}: row {number} ({row[0]}) has {len(row)} cells, the header has others'
            )
        entries.setdefault(row[0], []).extend(names)
    return entries


def _csv_rows(path: str) -> list[list[str]]:
    """Rows of a CSV file, cells without surrounding space; a row without a delimiter is cut at its first space."""
    lines = [line for line in _lines(path) if line.strip()]
    delimiter = ';' if lines and lines[0].count(';') > lines[0].count(',') else ','
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True)]
    return [row if len(row) > 1 else row[0].split(maxsplit=1) for row in rows]


def _table_columns(rows: Sequence[Sequence[str]]) -> list[str] | None:
    """Class names in the header of a table of 0 and 1; None for other files."""
    if len(rows) < 2 or rows[0][0].lower() not in _FIRST_COLUMN or len(rows[0]) < 2:
        return None
    return list(rows[0][1:]) if all(cell in _FLAGS for row in rows[1:] for cell in row[1:]) else None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f'label file {path}: not UTF-8 text ({error.reason}); save it as UTF-8') from error


def _read_label_lines(path: str, class_names: Sequence[str]) -> dict[str, list[str]]:
    entries: dict[str, list[str]] = {}
    for line in _lines(path):
        if line.strip():
            name, *rest = re.split(r'[,\s]+', line.strip(), maxsplit=1)
            entries.setdefault(name, []).extend(split_names(rest[0] if rest else '', class_names))
    return entries


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
    """Names under which a label file may list an image, the most exact first; numbers for a ``numbered`` file."""
    path = Path(info['img_path'])
    digits = re.findall(r'\d+', path.stem) if numbered else []
    numbers = [str(int(''.join(digits))), str(int(digits[-1]))] if digits else []
    return [info['img_id'], info['img_id'] + path.suffix, path.stem, path.name, *numbers]
