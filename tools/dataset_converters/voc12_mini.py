"""Build the small benchmark voc12_mini (900 train, 334 val images) from a full VOC2012 and the SBD masks.

The id lists are shipped beside this script. Images are scaled so that their longer side is 320 px (Lanczos, JPEG
quality 88), masks with nearest neighbour; smaller images stay as they are. The mask of an official VOC image is the
official one, that of another image comes from the folder of SBD masks. Files that are finished already are skipped.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from voc_common import (
    IGNORE_INDEX,
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

SPLITS = Path(__file__).parent / 'splits' / 'voc12_mini'


def scaled_size(width: int, height: int, longer_side: int) -> tuple[int, int]:
    """Width and height with the longer side reduced to ``longer_side``; smaller sizes are left alone.

    >>> scaled_size(500, 281, 320), scaled_size(275, 315, 320)
    ((320, 180), (275, 315))
    """
    factor = min(1.0, longer_side / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def mask_path(image_id: str, voc: Path, aug_masks: Path) -> Path:
    """The official mask of an image where VOC has one, else the one from SBD."""
    official = voc / 'SegmentationClass' / f'{image_id}.png'
    return official if official.is_file() else aug_masks / f'{image_id}.png'


def convert_item(image_id: str, voc: Path, aug_masks: Path, out: Path, longer_side: int, overwrite: bool) -> str | None:
    """Write the scaled image and mask of one id; returns what is wrong with the source, or None."""
    targets = out / 'JPEGImages' / f'{image_id}.jpg', out / 'SegmentationClass' / f'{image_id}.png'
    if not overwrite and all(target.is_file() for target in targets):
        return None
    try:
        image = Image.open(voc / 'JPEGImages' / f'{image_id}.jpg').convert('RGB')
        mask = Image.open(mask_path(image_id, voc, aug_masks))
        values = np.asarray(mask)
    except (OSError, SyntaxError) as error:
        return f'{image_id}: {error}'
    if values.ndim != 2:
        return f'{image_id}: mask has {values.shape[2]} channels, expected one of class indices'
    if image.size != mask.size:
        return f'{image_id}: mask is {mask.size}, image is {image.size}'
    if wrong := unknown_values(values):
        return f'{image_id}: mask holds unknown values {wrong}'
    size = scaled_size(*image.size, longer_side)
    small = np.asarray(Image.fromarray(values.astype(np.uint8)).resize(size, Image.Resampling.NEAREST))
    if lost := sorted(set(np.unique(values).tolist()) - set(np.unique(small).tolist()) - {0, IGNORE_INDEX}):
        return f'{image_id}: scaling loses the classes {lost}; use a larger --longer-side'
    save_image(image.resize(size, Image.Resampling.LANCZOS), targets[0], quality=88)
    save_image(palette_mask(small), targets[1])
    return None


def convert(
    voc: Path,
    aug_masks: Path,
    out: Path,
    splits: Path = SPLITS,
    longer_side: int = 320,
    overwrite: bool = False,
    workers: int = 4,
) -> dict[str, int]:
    """Build the benchmark; returns the number of images of every list.

    Raises:
        ConversionError: files are missing (nothing has been written then) or contradict each other.
    """  # fmt: skip
    lists = {path.stem: read_ids(path) for path in sorted(splits.glob('*.txt'))}
    ids = sorted({image_id for names in lists.values() for image_id in names})
    if not ids:
        raise ConversionError(f'no id lists in {splits}')
    require_files([voc / 'JPEGImages' / f'{image_id}.jpg' for image_id in ids], 'images')
    require_files([mask_path(image_id, voc, aug_masks) for image_id in ids], 'masks')
    for folder in ('JPEGImages', 'SegmentationClass'):
        (out / folder).mkdir(parents=True, exist_ok=True)
    function = partial(
        convert_item, voc=voc, aug_masks=aug_masks, out=out, longer_side=longer_side, overwrite=overwrite
    )
    convert_all(function, ids, f'scaling {len(ids)} images', workers)
    for name, names in lists.items():
        write_ids(names, out / 'ImageSets' / 'Segmentation' / f'{name}.txt')
    return {name: len(names) for name, names in lists.items()}


def parse_args() -> argparse.Namespace:
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('voc', type=Path, help='folder VOC2012 with JPEGImages and SegmentationClass')
    parser.add_argument('--aug-masks', type=Path, help='folder of SBD masks as PNG (VOC/SegmentationClassAug)')
    parser.add_argument('-o', '--out', type=Path, default=Path('data/voc12_mini'), help='result (%(default)s)')
    parser.add_argument('--splits', type=Path, default=SPLITS, help='folder of id lists (those shipped)')
    parser.add_argument('--longer-side', type=int, default=320, help='pixels of the longer side (%(default)s)')
    parser.add_argument('--overwrite', action='store_true', help='convert again what is there already')
    parser.add_argument('--workers', type=int, default=4, help='threads (%(default)s)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    aug_masks = args.aug_masks or args.voc / 'SegmentationClassAug'
    counts = convert(args.voc, aug_masks, args.out, args.splits, args.longer_side, args.overwrite, args.workers)
    print(f'{args.out} is ready: ' + ', '.join(f'{name} {count}' for name, count in counts.items()))


if __name__ == '__main__':
    launch.run_cli(main)
