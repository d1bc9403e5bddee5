"""Images per second of one training with 1, 2 and 4 processes, and what share of the ideal that is."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from rich.console import Console
from rich.table import Table
from shared_arguments import AtLeastOne
from step_batches import draw_batch
from step_clock import now_on
from step_sides import load_model

from mmwsss.utils.files import write_json

CONFIG = Path(__file__).parents[2] / 'configs/vitpcm/vitpcm_deit-t16_1xb16-2k_voc12mini-224x224.py'
WARM_UP = 2


@dataclass(frozen=True)
class Work:
    """What every process trains.

    Args:
        batch: images of one process in a step.
        half: bfloat16 by autocast.
    """

    config: Path
    batch: int
    crop: int
    steps: int
    half: bool
    threads: int
    device: str


def train(rank: int, processes: int, work: Work, store: str, results: mp.SimpleQueue) -> None:
    """Take steps as one of ``processes``; the first one puts the seconds of each step into ``results``."""
    torch.set_num_threads(work.threads)
    logging.disable(logging.WARNING)
    on_gpu = work.device == 'cuda'
    device = torch.device('cuda', rank) if on_gpu else torch.device('cpu')
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group('nccl' if on_gpu else 'gloo', f'file://{store}', rank=rank, world_size=processes)
    try:
        config = Config.fromfile(work.config)
        model = load_model(config, device)
        settings = config.optim_wrapper
        if work.half:
            settings.type = 'BFloat16OptimWrapper'
        network = MMDistributedDataParallel(model, device_ids=[rank] if on_gpu else None)
        wrapper = build_optim_wrapper(network, settings)
        seconds = []
        for step in range(WARM_UP + work.steps):
            data = draw_batch(model, work.batch, work.crop, seed=step * processes + rank).data()
            dist.barrier()
            start = now_on(device)
            network.train_step(data, wrapper)
            if hasattr(model, 'update_assignment'):
                model.update_assignment()
            dist.barrier()
            seconds.append(now_on(device) - start)
        if rank == 0:
            results.put(seconds[WARM_UP:])
    finally:
        dist.destroy_process_group()


def run(processes: int, work: Work) -> float:
    """Median seconds of a step of ``processes`` at a time, the slowest of them counting."""
    results = mp.get_context('spawn').SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(train, args=(processes, work, os.path.join(folder, 'store'), results), nprocs=processes)
        return median(results.get())


def summarise(seconds: dict[int, float], work: Work) -> list[dict]:
    """One entry for each number of processes; the efficiency compares with the smallest number of them."""
    fewest = min(seconds)
    speed = {processes: processes * work.batch / own for processes, own in seconds.items()}
    return [
        dict(
            name=f'scaling_{processes}',
            processes=processes,
            step_s=own,
            images_per_s=speed[processes],
            efficiency=speed[processes] / speed[fewest] * fewest / processes,
            batch=work.batch,
            crop=work.crop,
            threads=work.threads,
            device=work.device,
            cores=os.cpu_count(),
            config=work.config.stem,
        )
        for processes, own in seconds.items()
    ]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--config', type=Path, default=CONFIG, help='of any method; default: a small ViT-PCM')
    parser.add_argument('--processes', action=AtLeastOne, nargs='+', default=[1, 2, 4], help='numbers of them to run')
    parser.add_argument('--batch', action=AtLeastOne, default=4, help='images of one process in a step')
    parser.add_argument('--crop', action=AtLeastOne, default=224, help='side of the images in pixels')
    parser.add_argument('--steps', action=AtLeastOne, default=5, help=f'that are timed, after {WARM_UP} of warm-up')
    parser.add_argument('--threads', action=AtLeastOne, default=1, help='of one process on the CPU')
    parser.add_argument('--amp', action='store_true', help='in bfloat16')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu', help='gloo on the CPU, nccl on GPUs')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the results there')
    args = parser.parse_args(argv)
    if args.device == 'cuda' and max(args.processes) > torch.cuda.device_count():
        parser.error(f'--processes has {max(args.processes)}, but there are {torch.cuda.device_count()} GPUs')
    if not args.config.is_file():
        parser.error(f'--config {args.config} is no file')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    work = Work(args.config, args.batch, args.crop, args.steps, args.amp, args.threads, args.device)
    entries = summarise({processes: run(processes, work) for processes in sorted(set(args.processes))}, work)
    table = Table(
        caption=f'{work.config.stem}, {work.batch} x {work.crop}² a process, {work.threads} threads each, '
        f'{work.device}, {os.cpu_count()} cores'
    )
    for column in ('processes', 'step ms', 'images/s', 'efficiency %'):
        table.add_column(column, justify='right')
    for each in entries:
        times = f'{1e3 * each["step_s"]:.0f}', f'{each["images_per_s"]:.1f}', f'{100 * each["efficiency"]:.0f}'
        table.add_row(str(each['processes']), *times)
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    if args.json:
        write_json(args.json, entries)
        print(f'written to {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
