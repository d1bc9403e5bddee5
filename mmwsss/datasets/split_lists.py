"""Lists of images."""

from __future__ import annotations

from mmengine import fileio

from mmwsss.utils.files import leads_out

from .checks import DatasetError


def read_split(path: str, backend_args: dict | None = None) -> list[str]:
    """Names in a list, one a line, in UTF-8 with or without byte order mark; empty lines are passed over.

    Raises:
        DatasetError: the file is no such text, or a name leads out of the folder of the images; links may.
    """
    try:
        text = fileio.get_text(path, encoding='utf-8-sig', backend_args=backend_args)
    except UnicodeDecodeError as error:
        raise DatasetError(f'{path}: not UTF-8 text ({error.reason}); save it as UTF-8') from error
    names = []
    for number, line in enumerate(text.split('\n'), start=1):
        name = line.strip()
        if not name:
            continue
        if leads_out(name) or '\0' in name:
            raise DatasetError(
                f'{path}, line {number}: {name!r} leads out of the folder of the images; list ids, one a line'
            )
        names.append(name)
    return names
