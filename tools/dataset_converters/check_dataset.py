"""Check images and tags of your own before training on them, and print what a config needs.

The folder holds images, and their tags in labels.csv, .json or .txt or by one folder for each class; masks are
optional. See docs/own_data.md. The exit status is 1 where a training would not start.

Example: python tools/dataset_converters/check_dataset.py data/own
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmwsss.apis import launch
from mmwsss.apis.commands import for_installation
from mmwsss.apis.errors import FAILED
from mmwsss.datasets.checks import Problem
from mmwsss.datasets.data_report import DataReport, check_own_data
from mmwsss.datasets.own_data import find_own_data

MAX_LISTED = 5


def show(report: DataReport, console: Console) -> None:
    """Print the report for people."""
    console.print(class_table(report))
    facts = report.as_dict()
    console.print(f'{facts["images"]} images, {facts["masks"]} masks, shorter sides {side_text(facts["short_side"])}')
    counts = ', '.join(f'{number}: {count}' for number, count in report.labels_per_image.items())
    console.print(f'images by their number of classes: {counts}')
    for title, entries in (('warnings', report.warnings), ('problems', report.problems)):
        show_problems(title, entries, console)
    if not report.problems:
        console.print('\nReady. Either use the config as it is:')
        root = escape(shlex.quote(report.data.root))
        command = for_installation('python tools/train.py configs/vitpcm_own.py')
        console.print(f'  MMWSSS_DATA_ROOT={root} {command}', soft_wrap=True)
        console.print(
            f'or paste the datasets into another one, whose heads need num_classes={len(report.data.classes)}:\n'
        )
        console.print(escape(config_lines(report)), highlight=False, soft_wrap=True)


def class_table(report: DataReport) -> Table:
    """Class, colour, number of images, also of those in a list, and the class it occurs with most."""
    listed_per_class = report.listed_per_class
    columns = ('index', 'class', 'colour', 'images', *listed_per_class, 'most often with')
    table = Table(*columns, title=escape(report.data.root))
    classes = report.data.classes
    together = report.together
    for index, (name, colour) in enumerate(zip(classes, report.data.palette)):
        swatch = '[on rgb({},{},{})]    [/] {},{},{}'.format(*colour, *colour)
        count, friend, listed = '', '', [''] * len(listed_per_class)
        if index > 0:
            row = together[index - 1].copy()
            count, row[index - 1] = str(row[index - 1]), 0
            listed = [str(counts[name]) for counts in listed_per_class.values()]
            friend = f'{escape(classes[1 + row.argmax()])} ({row.max()})' if row.max() else ''
        table.add_row(str(index), escape(name), swatch, count, *listed, friend)
    return table


def side_text(sides: dict[str, int] | None) -> str:
    """Range of the shorter sides of the images."""
    return 'unknown' if sides is None else '{least} to {most} pixels, median {median}'.format(**sides)


def show_problems(title: str, entries: Sequence[Problem], console: Console) -> None:
    """Print the count and the first ones of each kind."""
    kinds = defaultdict(list)
    for entry in entries:
        kinds[entry.kind].append(entry)
    total = Counter(entry.kind for entry in entries)
    for kind, found in kinds.items():
        console.print(f'{title}: {kind} ({total[kind]})')
        for entry in found[:MAX_LISTED]:
            console.print(f'  {escape(entry.item)}: {escape(entry.detail)}', highlight=False, soft_wrap=True)
        if len(found) > MAX_LISTED:
            console.print(f'  ... and {len(found) - MAX_LISTED} more; --json lists all', highlight=False)


def config_lines(report: DataReport) -> str:
    """Datasets of both splits as text of a config."""
    train, val = report.data.dataset('train'), report.data.dataset('val')
    changed = {key: value for key, value in val.items() if train.get(key) != value}
    return '\n'.join(
        [
            'train_dataset = dict(',
            *(f'    {key}={value!r},' for key, value in train.items()),
            ')',
            'val_dataset = dict(',
            '    train_dataset,',
            *(f'    {key}={value!r},' for key, value in changed.items()),
            ')',
        ]
    )


def main() -> None:
    """Read the arguments, check; problems end it with status 1."""
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', help='folder of the images and tags')
    parser.add_argument('--min-side', type=int, default=64, help='warn of images below this many pixels (%(default)s)')
    parser.add_argument(
        '--few-images', type=int, default=20, help='warn of classes with fewer images to train on (%(default)s)'
    )
    parser.add_argument('--json', action='store_true', help='print the report as JSON instead')
    args = parser.parse_args()
    report = check_own_data(find_own_data(args.data), args.min_side, args.few_images)
    if args.json:
        print(json.dumps(report.as_dict(), indent=2, ensure_ascii=False))
    else:
        show(report, Console())
    if report.problems:
        sys.exit(FAILED)


if __name__ == '__main__':
    launch.run_cli(main)
