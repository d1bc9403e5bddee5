"""Prepare VOC2012 + SBD (train_aug) in mmseg's layout: SegmentationClassAug and the lists aug.txt and trainaug.txt.

Reads the masks of SBD (benchmark_RELEASE/dataset/cls/*.mat, field GTcls.Segmentation). As in mmseg, aug.txt holds the
images of SBD that are in neither list of VOC, and trainaug.txt those together with VOC's train list; images of VOC's
val list are in none. SegmentationClassAug holds SBD's mask for aug.txt and the official one for VOC's train and val, so
one folder serves trainaug.txt and val.txt alike. Masks that are finished already are skipped.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from voc_common import (
    ConversionError,
    convert_all,
    palette_mask,
    read_ids,
    require_files,
    save_image,
    unknown_values,
    write_ids,
)

from mmwsss.apis import launch

EXPECTED = {'train': 1464, 'val': 1449, 'aug': 9118, 'trainaug': 10582}


def read_sbd_mask(path: Path) -> np.ndarray:
    """Class indices of an SBD file, uint8 (H, W).

    Raises:
        ImportError: scipy is not installed.
        KeyError, OSError, ValueError: the file is no SBD class mask.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError('SBD masks are MATLAB files; reading them needs scipy: pip install scipy') from error
    content = loadmat(path, squeeze_me=True, struct_as_record=False)
    return np.asarray(content['GTcls'].Segmentation, dtype=np.uint8)


def split_ids(voc: Path, sbd: Path) -> dict[str, list[str]]:
    """Sorted ids of VOC's ``train`` and ``val`` and of the derived ``aug`` and ``trainaug``."""
    lists = voc / 'ImageSets' / 'Segmentation'
    train, val = read_ids(lists / 'train.txt'), read_ids(lists / 'val.txt')
    sbd_ids = set(read_ids(sbd / 'train.txt')) | set(read_ids(sbd / 'val.txt'))
    aug = sbd_ids - set(train) - set(val)
    return {
        'train': sorted(train),
        'val': sorted(val),
        'aug': sorted(aug),
        'trainaug': sorted((aug | set(train)) - set(val)),
    }


def check_counts(ids: dict[str, list[str]], allow_other_counts: bool) -> list[str]:
    """Lines of the report of every list's length against the official one.

    Raises:
        ConversionError: a length differs, unless ``allow_other_counts``.
    """
    lines = [f'{name:9} {len(ids[name]):6} ids, expected {count}' for name, count in EXPECTED.items()]
    if not allow_other_counts and any(len(ids[name]) != count for name, count in EXPECTED.items()):
        raise ConversionError('the lists are not those of VOC2012 + SBD:\n  ' + '\n  '.join(lines))
    return lines


def convert_item(image_id: str, source: Path, image: Path, out: Path, overwrite: bool) -> str | None:
    """Write the mask of one id as palette PNG; returns what is wrong with the source, or None."""
    target = out / f'{image_id}.png'
    if not overwrite and target.is_file():
        return None
    try:
        mask = read_sbd_mask(source) if source.suffix == '.mat' else np.asarray(Image.open(source))
        with Image.open(image) as header:
            size = header.size
    except (OSError, SyntaxError, ValueError, KeyError, AttributeError) as error:
        return f'{image_id}: {source}: {error}'
    if mask.shape != size[::-1]:
        return f'{image_id}: mask is {mask.shape[1::-1]}, image is {size}'
    if wrong := unknown_values(mask):
        return f'{image_id}: {source} holds unknown values {wrong}'
    save_image(palette_mask(mask), target)
    return None


def convert(
    voc: Path, sbd: Path, out: Path, allow_other_counts: bool = False, overwrite: bool = False, workers: int = 4
) -> list[str]:
    """Write the masks and both lists; returns the lines of the report.

    Args:
        voc: folder VOC2012.
        sbd: SBD's folder ``dataset`` with ``cls``, ``train.txt`` and ``val.txt``.
        out: folder of the masks.
        allow_other_counts: go on when the lists have other lengths than the official ones.
        overwrite: convert again what is there already.
        workers: threads.

    Raises:
        ConversionError: files are missing or other lists are found (nothing has been written then), or a mask is wrong.
    """
    ids = split_ids(voc, sbd)
    report = check_counts(ids, allow_other_counts)
    sources = {name: voc / 'SegmentationClass' / f'{name}.png' for name in ids['train'] + ids['val']}
    sources.update({name: sbd / 'cls' / f'{name}.mat' for name in ids['aug']})
    images = {name: voc / 'JPEGImages' / f'{name}.jpg' for name in sources}
    require_files(list(images.values()), 'images')
    require_files(list(sources.values()), 'masks')
    out.mkdir(parents=True, exist_ok=True)
    function = partial(_convert_named, sources=sources, images=images, out=out, overwrite=overwrite)
    convert_all(function, sorted(sources), f'converting {len(sources)} masks', workers)
    for name in ('aug', 'trainaug'):
        write_ids(ids[name], voc / 'ImageSets' / 'Segmentation' / f'{name}.txt')
    return report


def _convert_named(image_id: str, sources: dict, images: dict, out: Path, overwrite: bool) -> str | None:
    return convert_item(image_id, sources[image_id], images[image_id], out, overwrite)


def parse_args() -> argparse.Namespace:
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('devkit', type=Path, nargs='?', default=Path('data/VOCdevkit'), help='VOCdevkit (%(default)s)')
    parser.add_argument('sbd', type=Path, help='SBD, the folder benchmark_RELEASE or its subfolder dataset')
    parser.add_argument('-o', '--out', type=Path, help='masks (DEVKIT/VOC2012/SegmentationClassAug)')
    parser.add_argument('--allow-other-counts', action='store_true', help='accept lists of other than official length')
    parser.add_argument('--overwrite', action='store_true', help='convert again what is there already')
    parser.add_argument('--workers', type=int, default=4, help='threads (%(default)s)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    voc = args.devkit / 'VOC2012'
    sbd = args.sbd / 'dataset' if (args.sbd / 'dataset').is_dir() else args.sbd
    out = args.out or voc / 'SegmentationClassAug'
    print('\n'.join(convert(voc, sbd, out, args.allow_other_counts, args.overwrite, args.workers)))
    print(f'{out} is ready')


if __name__ == '__main__':
    launch.run_cli(main)
