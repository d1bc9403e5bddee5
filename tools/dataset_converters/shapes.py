"""Generate the embedded data set `shapes` in the VOC 2012 layout.

Besides the scenes it writes close-ups with one label each, on which a backbone can be pretrained as a classifier.

Example: python tools/dataset_converters/shapes.py --out data/shapes --train 1500 --val 150
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from PIL import Image
from rich.progress import track

from mmwsss.datasets.shapes import CLASSES, PALETTE, SPLITS, VERSION, make_close_up, make_sample

STAMP = 'shapes.json'
CLOSE_UPS = 'CloseUps'
CLOSE_UP_LABELS = 'close_ups.json'


def generate(
    out: str | Path,
    train: int = 1500,
    val: int = 150,
    close_ups: int = 2800,
    size: int = 144,
    seed: int = 0,
    ignore_border: int = 0,
    jobs: int = 1,
    overwrite: bool = False,
    progress: bool = True,
) -> bool:
    """Write the data set below ``out`` in VOC layout, or recognise it there; the files do not depend on ``jobs``.

    Returns:
        True when it was written, False when a complete set of the same arguments was there already.

    Raises:
        ValueError: an argument is out of range.
        FileExistsError: ``out`` holds something else, or a set of other arguments and ``overwrite`` is off.
    """
    limits = {'train': (train, 1), 'val': (val, 1), 'close_ups': (close_ups, 0), 'size': (size, 48), 'seed': (seed, 0)}
    limits |= {'ignore_border': (ignore_border, 0), 'jobs': (jobs, 1)}
    for name, (value, least) in limits.items():
        if value < least:
            raise ValueError(f'{name} is {value}, expected an integer >= {least}')
    out = Path(out).resolve()
    arguments = {'train': train, 'val': val, 'close_ups': close_ups, 'size': size, 'seed': seed}
    stamp = {'dataset': 'shapes', 'version': VERSION, **arguments, 'ignore_border': ignore_border}
    if _is_complete(out, stamp, overwrite):
        return False
    # The whole folder gets its name in one step at the end, so an interrupted run leaves nothing that looks finished.
    partial_out = out.with_name(f'.{out.name}.{os.getpid()}.partial')
    shutil.rmtree(partial_out, ignore_errors=True)
    try:
        for folder in ('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation', CLOSE_UPS):
            (partial_out / folder).mkdir(parents=True)
        tasks = [(split, index) for split, count in zip(SPLITS, (train, val)) for index in range(count)]
        write = partial(_write_sample, partial_out, seed, size, ignore_border)
        steps = track(_map(write, tasks, jobs), 'shapes', total=len(tasks), disable=not progress)
        names = list(steps)
        for split, chosen in zip(SPLITS, (names[:train], names[train:])):
            (partial_out / 'ImageSets' / 'Segmentation' / f'{split}.txt').write_text('\n'.join(chosen) + '\n')
        write = partial(_write_close_up, partial_out, seed, size // 3)
        steps = track(_map(write, range(close_ups), jobs), 'close-ups', total=close_ups, disable=not progress)
        (partial_out / CLOSE_UP_LABELS).write_text(json.dumps(dict(steps), indent=0) + '\n')
        (partial_out / STAMP).write_text(json.dumps(stamp, indent=2) + '\n')
        if _is_complete(out, stamp, overwrite):
            return False  # another process was faster
        if out.exists():
            shutil.rmtree(out)
        os.replace(partial_out, out)
    finally:
        shutil.rmtree(partial_out, ignore_errors=True)
    return True


def _is_complete(out: Path, stamp: dict, overwrite: bool) -> bool:
    """Whether ``out`` holds the finished set of ``stamp``; refuses anything there that must not be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = dict(json.loads((out / STAMP).read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise FileExistsError(f'{out} exists without a readable {STAMP}, choose another --out or remove it') from error
    if overwrite and found.get('dataset') == stamp['dataset']:
        return False
    changed = [f'{key} {found.get(key)} (asked for {value})' for key, value in stamp.items() if found.get(key) != value]
    if changed:
        raise FileExistsError(f'{out / STAMP} has {", ".join(changed)}; choose another --out or pass --overwrite')
    scenes = stamp['train'] + stamp['val']
    for folder, expected in (('JPEGImages', scenes), ('SegmentationClass', scenes), (CLOSE_UPS, stamp['close_ups'])):
        count = sum(1 for _ in (out / folder).glob('*'))
        if count != expected:
            raise FileExistsError(f'{out / folder} has {count} files, expected {expected}; pass --overwrite')
    return True


def _write_sample(root: Path, seed: int, size: int, ignore_border: int, task: tuple[str, int]) -> str:
    """Write one image and its palette mask, return the id."""
    name = f'{task[0]}_{task[1]:05d}'
    image, mask = make_sample(seed, *task, size, ignore_border)
    Image.fromarray(image).save(root / 'JPEGImages' / f'{name}.jpg', quality=95, subsampling=0)
    labels = Image.fromarray(mask)
    labels.putpalette([value for colour in PALETTE for value in colour] + [224] * 3 * (256 - len(PALETTE)))
    labels.save(root / 'SegmentationClass' / f'{name}.png')
    return name


def _write_close_up(root: Path, seed: int, size: int, index: int) -> tuple[str, list[str]]:
    """Write one close-up, return its id and the names of its foreground classes, one or none."""
    name = f'close_up_{index:05d}'
    image, label = make_close_up(seed, index, size)
    Image.fromarray(image).save(root / CLOSE_UPS / f'{name}.jpg', quality=95, subsampling=0)
    return name, [CLASSES[label]] if label else []


def _map(function: Callable, tasks: Sequence, jobs: int) -> Iterator:
    if jobs == 1:
        yield from map(function, tasks)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap(function, tasks, chunksize=8)


def main(argv: list[str] | None = None) -> None:
    """Run the command line; a wrong argument or an occupied folder ends it with status 2 and one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', default='data/shapes', help='folder of the data set (default: %(default)s)')
    parser.add_argument('--train', type=int, default=1500, help='number of training images (default: %(default)s)')
    parser.add_argument('--val', type=int, default=150, help='number of validation images (default: %(default)s)')
    parser.add_argument('--close-ups', type=int, default=2800, help='number of close-ups (default: %(default)s)')
    parser.add_argument('--size', type=int, default=144, help='longer side in pixels (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='same seed, same files (default: %(default)s)')
    parser.add_argument(
        '--ignore-border',
        type=int,
        default=0,
        metavar='W',
        help='label pixels within W of a border 255 (default: none)',
    )
    parser.add_argument('--jobs', type=int, default=1, help='processes; changes only the time (default: %(default)s)')
    parser.add_argument('--overwrite', action='store_true', help='replace the generated data set found in --out')
    parser.add_argument('--quiet', action='store_true', help='show no progress bar')
    arguments = vars(parser.parse_args(argv))
    quiet = arguments.pop('quiet')
    try:
        written = generate(**arguments, progress=not quiet)
    except (ValueError, FileExistsError) as error:
        parser.error(str(error))
    counts = f'{arguments["train"]} train and {arguments["val"]} val images, {arguments["close_ups"]} close-ups'
    print(f'{arguments["out"]}: {counts} {"written" if written else "already there"}')


if __name__ == '__main__':
    main()
