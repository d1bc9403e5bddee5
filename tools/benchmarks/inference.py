"""Images per second of the inferencer, in batches and one by one, and of a plain loop, taken in turns.

Example: python tools/benchmarks/inference.py vitpcm_voc12mini work_dirs/vitpcm_voc12mini IMAGES --num-images 64
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from mmwsss.apis import launch
from mmwsss.apis.image_sources import image_sources
from mmwsss.apis.inferencer import WSSSInferencer
from mmwsss.utils.files import write_json


def parse_args() -> argparse.Namespace:
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    launch.add_config_arguments(parser)
    parser.add_argument('weights', help='checkpoint or work dir')
    parser.add_argument('images', nargs='+', help='files, folders or patterns')
    parser.add_argument('--num-images', type=int, default=64, help='of the images (default: %(default)s)')
    parser.add_argument('--batch-size', type=int, default=8, help='default: %(default)s')
    parser.add_argument('--workers', type=int, default=2, help='threads that read ahead (default: %(default)s)')
    parser.add_argument('--repeat', type=int, default=3, help='turns (default: %(default)s)')
    parser.add_argument('--device', help='default: the GPU if there is one')
    parser.add_argument('--json', metavar='FILE', help='write the results there')
    args = parser.parse_args()
    if min(args.num_images, args.batch_size, args.repeat) < 1:
        parser.error('--num-images, --batch-size and --repeat have to be 1 or more')
    return args


def ways(inferencer: WSSSInferencer, args: argparse.Namespace, paths: list[str]) -> dict[str, Callable[[], None]]:
    """What is compared, by name: each predicts all ``paths`` and drops the results."""

    def run(images: list[str] | str, batch_size: int, workers: int) -> None:
        inferencer.batch_size, inferencer.num_workers = batch_size, workers
        for _ in inferencer.stream(images, skip_corrupt=True):
            pass

    def loop() -> None:
        for path in paths:
            run(path, 1, 0)

    return {
        'loop over single images': loop,
        f'one by one, {args.workers} threads ahead': lambda: run(paths, 1, args.workers),
        f'batches of {args.batch_size}, {args.workers} threads ahead': lambda: run(
            paths, args.batch_size, args.workers
        ),
    }


def main() -> None:
    """Run all ways in turns, print the median of each."""
    args = parse_args()
    inferencer = WSSSInferencer(args.config, args.weights, args.device, cfg_options=args.cfg_options)
    paths = [source.path for source in itertools.islice(image_sources(args.images), args.num_images)]
    compared = ways(inferencer, args, paths)
    inferencer(paths[: args.batch_size], progress=False)  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    for turn in range(args.repeat):
        for name, way in compared.items() if turn % 2 == 0 else reversed(compared.items()):
            start = time.perf_counter()
            way()
            if inferencer.device.startswith('cuda'):
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    base = median(seconds['loop over single images'])
    table = Table(
        'way', caption=f'{len(paths)} images, {inferencer.device}, {torch.get_num_threads()} threads of torch'
    )
    for column in ('images/s', 'against the loop'):
        table.add_column(column, justify='right')
    for name, values in seconds.items():
        table.add_row(name, f'{len(paths) / median(values):.2f}', f'{base / median(values):.2f}x')
    Console().print(table)
    if args.json:
        write_json(args.json, dict(images=len(paths), device=inferencer.device, seconds=seconds))


if __name__ == '__main__':
    launch.run_cli(main)
