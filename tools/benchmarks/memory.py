"""Memory of a training step of every method at the official batch and crop."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass
from functools import partial

import torch
from mmengine.config import Config
from rich.console import Console
from rich.progress import track
from rich.table import Table
from shared_arguments import AtLeastOne, add_run_arguments
from step_batches import draw_batch
from step_cases import CONFIGS, METHODS, Place
from step_clock import Clock
from step_memory import peak_of, state_bytes
from step_sides import OurStep, load_model

from mmwsss.utils.files import write_json

GIBIBYTE = 2**30


@dataclass(frozen=True)
class Row:
    """One network at the batch of one process of the official training.

    Args:
        unit: images that a batch is a multiple of.
    """

    name: str
    method: str
    place: Place
    unit: int = 1


ROWS = (
    Row('vitpcm', 'vitpcm', Place('vitpcm/vitpcm_vit-b16_4xb16-13k_voc12aug-384x384.py', 16, 384), unit=4),
    Row('apc', 'apc', Place('apc/apc_vit-b16_1xb16-20k_voc12aug-384x384.py', 16, 384)),
    Row('cosa', 'cosa', Place('cosa/cosa_vit-b16_2xb2-32k_voc12aug-448x448.py', 2, 448)),
    Row('cosa_released', 'cosa', Place('cosa/cosa_vit-b16_2xb2-32k_voc12aug-448x448_released.py', 2, 448)),
    Row('acr', 'acr', Place('acr/acr_vit-b16-hybrid_1xb1-26k_voc12aug-384x384_released.py', 1, 384)),
    Row('pmm_seam', 'pmm', Place('pmm/seam_resnet38d_8xb3-3520_voc12aug-448x448.py', 3, 448)),
    Row('pmm_affinity', 'pmm', Place('pmm/affinity_resnet38d_4xb4-5288_voc12aug-448x448.py', 4, 448)),
)


@dataclass(frozen=True)
class Memory:
    """Bytes of the weights and the optimizer, and of whole steps at the batch sizes that were run."""

    state: int
    steps: dict[int, int]

    @property
    def per_image(self) -> float | None:
        """Bytes that one more image takes; None where only one batch was run."""
        if len(self.steps) < 2:
            return None
        small, large = sorted(self.steps)
        return (self.steps[large] - self.steps[small]) / (large - small)

    def at(self, batch: int) -> float:
        """Bytes of a step of ``batch`` images: measured, or along the line through both that were."""
        if batch in self.steps:
            return self.steps[batch]
        small = min(self.steps)
        return self.steps[small] + (batch - small) * self.per_image


def measure(row: Row, half: bool, device: torch.device) -> Memory:
    """Memory of steps of one and of two units of images on a CPU, of the official batch on a GPU."""
    config = Config.fromfile(CONFIGS / row.place.config)
    side = OurStep(load_model(config, device), config, half, Clock())
    draw = partial(draw_batch, side.model, seed=0)
    side.step(draw(row.unit, row.place.crop))  # the optimizer makes its state
    side.wrapper.zero_grad()
    state = state_bytes(side.model, side.wrapper.optimizer)
    sizes = (row.unit, 2 * row.unit) if device.type == 'cpu' else (row.place.batch,)
    steps = {}
    for size in sizes:
        steps[size] = state + peak_of(partial(side.step, draw(size, row.place.crop)), device)
        side.wrapper.zero_grad()
    return Memory(state, steps)


def entry(row: Row, memory: Memory, half: bool) -> dict:
    """What goes into the JSON file."""
    return dict(
        name=f'{row.name}_memory',
        config=row.place.config,
        batch=row.place.batch,
        crop=row.place.crop,
        dtype='bfloat16' if half else 'float32',
        measured_batches=list(memory.steps),
        state_gib=memory.state / GIBIBYTE,
        per_image_gib=None if memory.per_image is None else memory.per_image / GIBIBYTE,
        peak_gib=memory.at(row.place.batch) / GIBIBYTE,
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=METHODS, help='default: all')
    parser.add_argument('--rows', nargs='+', choices=[row.name for row in ROWS], help='of the methods; default: all')
    parser.add_argument('--crop', action=AtLeastOne, help='side of the images in pixels; default: the official one')
    parser.add_argument('--amp', action='store_true', help='in bfloat16')
    add_run_arguments(parser, device='cpu runs two small batches, cuda the official one')
    args = parser.parse_args(argv)
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        parser.error(f'--device {args.device} needs a GPU, none was found')
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    table = Table(caption=f'{device}, {"bfloat16" if args.amp else "float32"}, torch {torch.__version__}')
    for column in ('network', 'batch', 'measured at', 'weights, optimizer GiB', 'per image GiB', 'peak GiB'):
        table.add_column(column, justify='left' if column == 'network' else 'right')
    entries = []
    logging.disable(logging.WARNING)  # building a model lists every weight otherwise
    chosen = [row for row in ROWS if row.method in args.methods and (not args.rows or row.name in args.rows)]
    for row in track(chosen, description='networks', console=Console(stderr=True), transient=True):
        if args.crop:
            row = Row(row.name, row.method, Place(row.place.config, row.place.batch, args.crop), row.unit)
        found = entry(row, measure(row, args.amp, device), args.amp)
        entries.append(found)
        table.add_row(
            row.name,
            f'{row.place.batch} x {row.place.crop}²',
            ', '.join(map(str, found['measured_batches'])),
            f'{found["state_gib"]:.2f}',
            '-' if found['per_image_gib'] is None else f'{found["per_image_gib"]:.2f}',
            f'{found["peak_gib"]:.2f}',
        )
    logging.disable(logging.NOTSET)
    Console(width=None if sys.stdout.isatty() else 130).print(table)
    if args.json:
        write_json(args.json, entries)
        print(f'written to {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
