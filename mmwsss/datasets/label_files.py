"""Reading label files: ``.npy`` dict, ``.json``, ``.csv`` and ``.txt``."""

from __future__ import annotations

import json
import os.path as osp
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .checks import DatasetError


def read_label_file(path: str, class_names: Sequence[str]) -> dict[str, Any]:
    """Entries of a label file by id: a list of class names or a vector, see ``FileLabels``.

    Raises:
        DatasetError: the file is missing or does not hold what its ending promises.
    """
    suffix = Path(path).suffix
    if not osp.isfile(path):
        raise DatasetError(f'label file {path} does not exist')
    if suffix == '.npy':
        array = np.load(path, allow_pickle=True)
        content = array.item() if array.dtype == object and array.ndim == 0 else array
    elif suffix == '.json':
        content = read_json(path)
    else:
        return _read_label_lines(path, class_names)
    if not isinstance(content, dict):
        raise DatasetError(f'label file {path}: expected a dict from image id to labels, got {type(content).__name__}')
    return {str(key): value for key, value in content.items()}


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


def _read_label_lines(path: str, class_names: Sequence[str]) -> dict[str, list[str]]:
    entries: dict[str, list[str]] = {}
    for line in Path(path).read_text(encoding='utf-8-sig').splitlines():
        if line.strip():
            name, *rest = re.split(r'[,\s]+', line.strip(), maxsplit=1)
            entries.setdefault(name, []).extend(split_names(rest[0] if rest else '', class_names))
    return entries


def read_json(path: str) -> Any:
    """Content of a JSON file.

    Raises:
        DatasetError: the file is missing or no JSON.
    """
    try:
        with open(path, encoding='utf-8') as stream:
            return json.load(stream)
    except FileNotFoundError:
        raise DatasetError(f'label file {path} does not exist') from None
    except json.JSONDecodeError as error:
        raise DatasetError(f'label file {path}: not valid JSON: {error}') from error


def label_keys(info: dict, numbered: bool) -> list[str]:
    """Names under which a label file may list an image, the most exact first; numbers for a ``numbered`` file."""
    path = Path(info['img_path'])
    digits = re.findall(r'\d+', path.stem) if numbered else []
    numbers = [str(int(''.join(digits))), str(int(digits[-1]))] if digits else []
    return [info['img_id'], path.stem, path.name, *numbers]
