"""Print the scores of one or several evaluations as a table, and the folders with their pictures.

Example: python tools/analysis_tools/score_table.py work_dirs/vitpcm_shapes work_dirs/apc_shapes
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmwsss.apis import UsageError, launch

FILE_NAME = 'metrics.json'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('paths', nargs='+', type=Path, help=f'{FILE_NAME} files, or folders searched for them')
    return parser.parse_args(argv)


def find_records(paths: list[Path]) -> list[Path]:
    """All record files named by ``paths``, each once.

    Raises:
        UsageError: a path does not exist or a folder holds no record.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_file():
            files = [path]
        elif path.is_dir():
            files = sorted(path.rglob(FILE_NAME))
        else:
            raise UsageError(f'{path}: no such file or folder; give a {FILE_NAME} written by tools/test.py')
        if not files:
            raise UsageError(f'{path}: no {FILE_NAME} in this folder; run tools/test.py first')
        found.update(dict.fromkeys(files))
    return list(found)


def read_record(path: Path) -> dict:
    """Content of one record.

    Raises:
        UsageError: the file is not a record.
    """
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise UsageError(f'{path}: not JSON ({error}); write it again with tools/test.py') from error
    if not isinstance(record, dict) or not isinstance(record.get('scores'), dict):
        raise UsageError(f'{path}: expected the key "scores"; write it again with tools/test.py')
    return record


def picture_folders(path: Path) -> list[Path]:
    """Folders named ``panels`` beside the record ``path`` or below its folder."""
    return sorted(folder for folder in path.parent.rglob('panels') if folder.is_dir())


def build_table(runs: dict[str, dict]) -> Table:
    """Table with one row per score and one column per run; long names of runs are folded, names of scores are not."""
    table = Table()
    table.add_column('score', no_wrap=True)
    for run in runs:
        table.add_column(run, justify='right', overflow='fold')
    for name in dict.fromkeys(name for scores in runs.values() for name in scores):
        table.add_row(name, *(_cell(name, scores.get(name)) for scores in runs.values()))
    return table


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return '-'
    return f'{value:g}' if '_bg_' in name else f'{value:.2f}'


def main(argv: list[str] | None = None) -> None:
    """Read the arguments, print the table."""
    args = parse_args(argv)
    records = {path: read_record(path) for path in find_records(args.paths)}
    console = Console(highlight=False, markup=False)
    console.print(build_table({str(path.parent): record['scores'] for path, record in records.items()}))
    for path, record in records.items():
        console.print(f'{path.parent}: {record.get("protocol", "protocol not recorded")}', soft_wrap=True)
        for folder in picture_folders(path):
            console.print(f'  pictures: {folder}', soft_wrap=True)


if __name__ == '__main__':
    launch.run_cli(main)
