"""Write masks, maps and pictures of any images.

Below the output folder lie masks/ (segmentation, made without image labels), pseudo_masks/ and maps/ of weak models,
panels/ to look at, and predictions.json.

Example: mmwsss predict vitpcm_voc12mini photos/ --weights work_dirs/vitpcm_voc12mini --out predictions
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import closing
from itertools import repeat

from mmwsss.apis import launch
from mmwsss.apis.image_sources import image_sources, missing, refuse_repeated_names, refuse_unreadable
from mmwsss.apis.inferencer import WSSSInferencer
from mmwsss.apis.prediction_files import check_writable


def parse_args() -> argparse.Namespace:
    """Arguments; images are files, folders, patterns or URLs."""
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    launch.add_config_arguments(parser)
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='file, folder, pattern in quotes, or URL')
    parser.add_argument('--weights', metavar='FILE', help='checkpoint or work dir (default: load_from of the config)')
    parser.add_argument('--out', default='predictions', metavar='DIR', help='output folder (default: %(default)s)')
    tags = parser.add_mutually_exclusive_group()
    tags.add_argument('--tags', metavar='FILE', help='image labels of all images: .json, .csv, .txt or .npy')
    tags.add_argument('--classes', nargs='+', metavar='NAME', help='classes that every one of the images shows')
    parser.add_argument('--steps', metavar='NAME_OR_FILE', help='pseudo labeler, as of mmwsss pseudo-labels')
    parser.add_argument('--device', help='where to run (default: the GPU if there is one)')
    parser.add_argument('--batch-size', type=int, default=8, help='images in one pass (default: %(default)s)')
    parser.add_argument('--workers', type=int, default=2, help='threads that read and write (default: %(default)s)')
    parser.add_argument('--skip-corrupt', action='store_true', help='leave out images that cannot be read')
    return parser.parse_args()


def check_paths(args: argparse.Namespace) -> None:
    """Check what the arguments name before anything slow begins.

    Raises:
        UsageError: images or label file do not exist, or nothing can be written to the output folder.
    """
    if args.tags is not None and not os.path.isfile(args.tags):
        raise launch.UsageError(f'--tags {args.tags}: the label file does not exist')
    check_writable(args.out, '--out')
    sources = list(image_sources(args.images))
    if not args.skip_corrupt:
        refuse_unreadable(missing(sources), len(sources))
    refuse_repeated_names(sources)


def main() -> None:
    """Read the arguments, predict, say what was written."""
    args = parse_args()
    check_paths(args)
    inferencer = WSSSInferencer(
        args.config,
        args.weights,
        args.device,
        cfg_options=args.cfg_options,
        steps=args.steps,
        batch_size=args.batch_size,
        num_workers=args.workers,
    )
    start, count = time.perf_counter(), 0
    results = inferencer.stream(
        args.images,
        image_labels=args.tags,
        classes=None if args.classes is None else repeat(args.classes),
        out_dir=args.out,
        maps=False,
        skip_corrupt=args.skip_corrupt,
        progress=True,
    )
    used = False
    try:
        with closing(results):
            for prediction in results:
                count += 1
                used = used or prediction.used_labels
    except BaseException:
        if inferencer.written:
            print(f'{args.out}: the files of {len(inferencer.written)} images are there', file=sys.stderr)
        raise
    for problem in inferencer.skipped:
        print(f'left out: {problem.item}: {problem.detail}')
    seconds = time.perf_counter() - start
    made = ''
    if inferencer.makes_pseudo_masks:
        made = f'; maps and pseudo masks made {"with" if used else "without"} image labels'
    print(f'{args.out}: {count} images in {seconds:.1f} s ({count / seconds:.2f} images/s){made}')
