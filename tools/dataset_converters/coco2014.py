"""Make masks of 81 classes, image labels and lists of COCO 2014 from its instances files, see docs/coco.md.

Below --out it writes SegmentationClass/SPLIT/*.png, their checksums in SegmentationClass/SPLIT.{json,sha256}, the
labels ImageLabels/SPLIT.json and the lists ImageSets/SPLIT.txt (images with an object) and
ImageSets/SPLIT_vitpcm.txt (those with 256 pixels and more on both sides). Masks that are finished already are
kept. Equal files and rules give equal checksums on any machine, with any number of processes.

Example: python tools/dataset_converters/coco2014.py data/coco/annotations/instances_{train,val}2014.json
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import track
from voc_common import MAX_LISTED, ConversionError, write_ids

from mmwsss.apis import launch
from mmwsss.datasets import WeakCOCODataset
from mmwsss.datasets.checks import UNREADABLE, DatasetError, read_mask
from mmwsss.datasets.coco_masks import (
    CROWDS,
    IDS,
    OVERLAPS,
    ImageInstances,
    InstancesFile,
    MaskRules,
    class_mask,
    image_classes,
    read_instances,
)
from mmwsss.datasets.voc import voc_colour_map
from mmwsss.utils.files import file_sha256, locked, remove_partial_files, replacing, write_json, write_palette_png

MASKS = 'SegmentationClass'
LEAST_SIDE = 256  # of the images in the lists of ViT-PCM
# Images of the official files, those with an object, and those in the lists of ViT-PCM.
EXPECTED = {'train2014': (82783, 82081, 81477), 'val2014': (40504, 40137, 39884)}
PALETTE = voc_colour_map(256)


class Split(NamedTuple):
    """Files that are written for one split."""

    out: Path
    name: str

    @property
    def masks(self) -> Path:
        """Folder of the masks."""
        return self.out / MASKS / self.name

    @property
    def manifest(self) -> Path:
        """What the masks were made of and how, and their common checksum."""
        return self.out / MASKS / f'{self.name}.json'

    @property
    def checksums(self) -> Path:
        """Checksum of each mask."""
        return self.out / MASKS / f'{self.name}.sha256'

    def ids(self, suffix: str = '') -> Path:
        """List of images."""
        return self.out / 'ImageSets' / f'{self.name}{suffix}.txt'

    @property
    def labels(self) -> Path:
        """Image labels, for ``FileLabels``."""
        return self.out / 'ImageLabels' / f'{self.name}.json'


def mask_digest(mask: np.ndarray) -> str:
    """SHA-256 of size and values of a mask, uint8 (H, W), whatever way its file packs them."""
    return hashlib.sha256(f'{mask.shape[0]} {mask.shape[1]}\n'.encode() + mask.tobytes()).hexdigest()


def finished_digest(path: Path, image: ImageInstances) -> str | None:
    """Checksum of a mask that is there already; None where it is missing or broken."""
    try:
        mask = read_mask(str(path))
    except UNREADABLE:  # a missing file as well
        return None
    return mask_digest(mask) if mask.shape == (image.height, image.width) else None


def write_mask(image: ImageInstances, folder: Path, values: dict[int, int], rules: MaskRules) -> tuple[str, str]:
    """Write the mask of one image unless it is there; returns its checksum and what was wrong with it, one empty."""
    path = folder / f'{image.name}.png'
    digest = finished_digest(path, image)
    if digest is None:
        try:
            mask = class_mask(image, values, rules)
        except DatasetError as error:
            return '', str(error)
        write_palette_png(path, mask, PALETTE)
        digest = mask_digest(mask)
    return digest, ''


def write_masks(content: InstancesFile, folder: Path, rules: MaskRules, workers: int) -> list[str]:
    """Write all masks in processes; returns their checksums in the order of the images.

    Raises:
        ConversionError: annotations that cannot be drawn, the first ones and the count; or a process was killed.
    """
    function = partial(write_mask, folder=folder, values=content.values(rules), rules=rules)
    title = f'{len(content.images)} masks of {folder.name}'
    try:
        results = list(track(map_processes(function, content.images, workers), title, total=len(content.images)))
    except BrokenProcessPool as error:
        text = (
            'a process was killed, maybe for lack of memory; start again with fewer --workers, finished masks are kept'
        )
        raise ConversionError(text) from error
    complaints = [complaint for _, complaint in results if complaint]
    if complaints:
        listed = '\n  '.join(complaints[:MAX_LISTED])
        raise ConversionError(f'{title}: {len(complaints)} failed, the first:\n  {listed}')
    return [digest for digest, _ in results]


def map_processes(function, items: Sequence, workers: int) -> Iterator:
    """Results of ``function`` in the order of ``items``; in this process with one worker."""
    if workers == 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(function, items, chunksize=32)


def listed_images(content: InstancesFile, rules: MaskRules) -> tuple[list[str], list[str]]:
    """Names of the images with an object, and of those among them that ViT-PCM's lists have."""
    full = [image for image in content.images if image_classes(image, content.places, rules)]
    large = [image.name for image in full if min(image.height, image.width) >= LEAST_SIDE]
    return [image.name for image in full], large


def check_counts(split: str, counts: tuple[int, int, int], rules: MaskRules, allow_other_counts: bool) -> list[str]:
    """Lines of the report of every count against the official one.

    Raises:
        ConversionError: the images, or those with an object, are not as many as officially.
    """
    expected = EXPECTED.get(split)
    if expected is None and not allow_other_counts:
        raise ConversionError(f'{split} is none of {", ".join(EXPECTED)}; --allow-other-counts converts it anyway')
    lines = []
    for what, count, official in zip(('images', 'with an object', 'of those large'), counts, expected or (None,) * 3):
        lines.append(f'{split}: {count:6} {what}' + ('' if official is None else f', expected {official}'))
    # How many images have crowds only is not known, so only their full number can be checked then.
    compared = 2 if rules.crowd == 'class' else 1
    if not allow_other_counts and counts[:compared] != expected[:compared]:
        raise ConversionError('this is not the official file, --allow-other-counts goes on:\n  ' + '\n  '.join(lines))
    return lines


def start(split: Split, settings: dict, overwrite: bool) -> None:
    """Note what the masks are made of, before the first one is written.

    Raises:
        ConversionError: there are masks of other settings, or of none that are known.
    """
    if not overwrite and split.masks.is_dir() and next(split.masks.iterdir(), None) is not None:
        try:
            found = json.loads(split.manifest.read_text(encoding='utf-8'))
        except (OSError, ValueError) as error:
            raise ConversionError(f'{split.masks} holds masks, but {split.manifest} does not say which') from error
        changed = [f'{key} {found.get(key)}' for key, value in settings.items() if found.get(key) != value]
        if changed:
            asked = f'asked for {json.dumps({key: settings[key] for key in settings})}'
            raise ConversionError(
                f'{split.masks} holds masks of {", ".join(changed)}, {asked}; choose another --out or pass --overwrite'
            )
    elif split.masks.is_dir():
        for path in split.masks.iterdir():
            path.unlink()
    split.masks.mkdir(parents=True, exist_ok=True)
    remove_partial_files(split.masks, below=False)
    write_json(split.manifest, dict(settings, complete=False))


def convert(
    source: Path,
    out: Path,
    rules: MaskRules,
    workers: int = 4,
    allow_other_counts: bool = False,
    overwrite: bool = False,
) -> list[str]:
    """Convert one instances file; returns the lines of the report.

    Args:
        source: ``instances_SPLIT.json``.
        out: root of the data.
        workers: processes.
        allow_other_counts: go on where the file has other numbers of images than the official one.
        overwrite: make all masks anew, also where there are some by other rules.

    Raises:
        ConversionError: the file or folder is not what it should be, or an annotation cannot be drawn.
        DatasetError: see :func:`~mmwsss.datasets.coco_masks.read_instances`.
    """
    if importlib.util.find_spec('pycocotools') is None:
        raise ConversionError('masks of COCO are drawn by pycocotools: pip install pycocotools')
    split = Split(out, split_name(source))
    content = read_instances(source)
    standard, large = listed_images(content, rules)
    report = check_counts(split.name, (len(content.images), len(standard), len(large)), rules, allow_other_counts)
    settings = dict(source=source.name, source_sha256=file_sha256(source), **asdict(rules))
    split.masks.parent.mkdir(parents=True, exist_ok=True)
    try:
        with locked(split.masks.parent / f'.{split.name}.lock'):
            start(split, settings, overwrite)
            digests = write_masks(content, split.masks, rules, workers)
    except BlockingIOError:
        raise ConversionError(f'{split.masks}: another conversion is writing there') from None
    names = [image.name for image in content.images]
    checksum = write_checksums(split.checksums, dict(zip(names, digests)))
    classes = WeakCOCODataset.METAINFO['classes']
    labels = {image.name: [classes[i] for i in image_classes(image, content.places, rules)] for image in content.images}
    write_json(split.labels, labels)
    write_ids(standard, split.ids())
    write_ids(large, split.ids('_vitpcm'))
    write_json(split.manifest, dict(settings, complete=True, masks=len(names), sha256=checksum))
    return [*report, f'{split.name}: sha256 of all masks {checksum}']


def split_name(source: Path) -> str:
    """Split that the name of an instances file says."""
    found = re.fullmatch(r'instances_(\w+)\.json', source.name)
    if found is None:
        raise ConversionError(f'{source}: expected a file named instances_SPLIT.json')
    return found[1]


def write_checksums(path: Path, digests: dict[str, str]) -> str:
    """Write the checksum of every mask; returns the one of that list."""
    text = ''.join(f'{digest}  {name}\n' for name, digest in digests.items())
    with replacing(path) as temporary:
        temporary.write_text(text, encoding='utf-8')
    return hashlib.sha256(text.encode()).hexdigest()


def verify(source: Path, out: Path) -> list[str]:
    """Compare the masks of a split with their checksums; returns the line of the report.

    Raises:
        ConversionError: the split was not converted to its end, or masks differ; the first ones and the count.
    """
    split = Split(out, split_name(source))
    try:
        manifest = json.loads(split.manifest.read_text(encoding='utf-8'))
        text = split.checksums.read_text(encoding='utf-8')
    except (OSError, ValueError) as error:
        raise ConversionError(f'{split.masks} was not converted to its end: {error}') from error
    if not manifest['complete'] or hashlib.sha256(text.encode()).hexdigest() != manifest['sha256']:
        raise ConversionError(f'{split.checksums} is not the one that {split.manifest} names; convert again')
    entries = [line.split('  ', 1) for line in text.splitlines()]
    differ = []
    for digest, name in track(entries, f'verifying {split.name}'):
        try:
            same = mask_digest(read_mask(str(split.masks / f'{name}.png'))) == digest
        except UNREADABLE:
            same = False
        differ += [] if same else [name]
    if differ:
        raise ConversionError(f'{len(differ)} of {len(entries)} masks are missing or differ: {", ".join(differ[:5])}')
    return [f'{split.name}: {len(entries)} masks are as they were written']


def parse_args() -> argparse.Namespace:
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('instances', type=Path, nargs='+', help='instances_train2014.json, instances_val2014.json')
    parser.add_argument('-o', '--out', type=Path, default=Path('data/coco'), help='root of the data (%(default)s)')
    parser.add_argument('--overlap', choices=OVERLAPS, default='later', help='annotation on top (%(default)s)')
    parser.add_argument('--crowd', choices=CROWDS, default='class', help='what regions of crowds are (%(default)s)')
    parser.add_argument('--ids', choices=IDS, default='contiguous', help='values 1..80 or 1..90 (%(default)s)')
    parser.add_argument('--workers', type=int, default=4, help='processes (%(default)s)')
    parser.add_argument('--allow-other-counts', action='store_true', help='accept other than the official files')
    parser.add_argument('--overwrite', action='store_true', help='make masks anew that are there already')
    parser.add_argument('--verify', action='store_true', help='only compare masks with their checksums')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    rules = MaskRules(args.overlap, args.crowd, args.ids)
    for source in args.instances:
        if args.verify:
            lines = verify(source, args.out)
        else:
            lines = convert(source, args.out, rules, args.workers, args.allow_other_counts, args.overwrite)
        print('\n'.join(lines))


if __name__ == '__main__':
    launch.run_cli(main)
