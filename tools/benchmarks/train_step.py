"""Training steps of every method against the official procedures written plainly, side by side in one process."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from step_batches import draw_batch
from step_cases import CASES, CONFIGS, METHODS, Case, Place
from step_clock import BACKWARD, SECTIONS, STUDENT
from step_comparison import Comparison, Turns
from step_flops import measured_peak

from mmwsss.utils.files import write_json

TOLERANCE = 1e-4  # of the losses, relative
MEBIBYTE = 2**20


@dataclass
class Result:
    """Both sides of one case, and how far their losses and gradients are apart.

    Args:
        flops: operations of the sections of a step of ours.
        peak: operations per second that the device could do in our precision.
    """

    case: Case
    place: Place
    turns: dict[str, Turns]
    loss_gap: float
    gradient_gap: float
    flops: dict[str, float]
    peak: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.turns['reference'].median_s / self.turns['ours'].median_s

    @property
    def agrees(self) -> bool:
        """Whether the losses are near enough, where they have to be."""
        return self.loss_gap <= TOLERANCE or not self.case.exact

    @property
    def utilisation(self) -> float:
        """Share of ``peak`` that our step reaches."""
        return sum(self.flops.values()) / self.turns['ours'].median_s / self.peak

    @property
    def student_utilisation(self) -> float:
        """Share of ``peak`` that the forward and backward passes of the trained network reach."""
        split, sections = self.turns['ours'].split, (STUDENT, BACKWARD)
        return sum(self.flops[name] for name in sections) / sum(split[name] for name in sections) / self.peak

    def entry(self) -> dict:
        """What goes into the JSON file, without the settings that all cases share."""
        ours, reference = self.turns['ours'], self.turns['reference']
        return dict(
            name=self.case.name,
            ours_s=ours.median_s,
            reference_s=reference.median_s,
            ratio=self.ratio,
            goal=self.case.goal,
            images_per_s=self.place.batch / ours.median_s,
            peak_memory_mb=ours.memory / MEBIBYTE,
            reference_peak_memory_mb=reference.memory / MEBIBYTE,
            split=ours.split,
            reference_split=reference.split,
            mfu=self.utilisation,
            mfu_student=self.student_utilisation,
            max_rel_loss_diff=self.loss_gap,
            rel_grad_diff=self.gradient_gap,
        )


def run_case(case: Case, place: Place, args: argparse.Namespace, device: torch.device, peak: float) -> Result:
    """Compare both sides of ``case``.

    Raises:
        ValueError: the config is not what the reference knows.
    """
    config = Config.fromfile(CONFIGS / place.config)
    comparison = Comparison(case, config, args.amp, device)
    batches = [draw_batch(comparison.ours.model, place.batch, place.crop, seed) for seed in range(args.repeat)]
    gaps, flops = comparison.gaps(batches[0]), comparison.flops(batches[0])
    return Result(case, place, comparison.run(batches), *gaps, flops, peak)


def result_table(results: Sequence[Result], caption: str) -> Table:
    """One row for each case."""
    table = Table(caption=caption)
    table.add_column('step', no_wrap=True)
    columns = ('batch', 'ours ms', 'plain ms', 'ratio', 'goal', 'images/s', 'MiB', 'plain MiB', 'MFU %', 'student %')
    for column in (*columns, 'loss diff', 'grad diff'):
        table.add_column(column, justify='right')
    for result in results:
        entry, place = result.entry(), result.place
        table.add_row(
            result.case.name,
            f'{place.batch} x {place.crop}²',
            f'{1e3 * entry["ours_s"]:.0f}',
            f'{1e3 * entry["reference_s"]:.0f}',
            f'{result.ratio:.2f}',
            f'{result.case.goal:g}' if result.case.goal else '-',
            f'{entry["images_per_s"]:.1f}',
            f'{entry["peak_memory_mb"]:.0f}',
            f'{entry["reference_peak_memory_mb"]:.0f}',
            f'{100 * entry["mfu"]:.0f}',
            f'{100 * entry["mfu_student"]:.0f}',
            f'{result.loss_gap:.0e}',
            f'{result.gradient_gap:.0e}',
        )
    return table


def split_table(results: Sequence[Result]) -> Table:
    """Milliseconds of the sections, ours before plain."""
    table = Table(title='Where the time goes: ms of ours / of the plain procedure')
    table.add_column('step', no_wrap=True)
    for section in SECTIONS:
        table.add_column(section, justify='right')
    for result in results:
        splits = [result.turns[side].split for side in ('ours', 'reference')]
        cells = [' / '.join(f'{1e3 * split[section]:.0f}' for split in splits) for section in SECTIONS]
        table.add_row(result.case.name, *cells)
    return table


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=METHODS, help='default: all')
    parser.add_argument('--cases', nargs='+', metavar='NAME', help='rows of these names only, such as cosa_step')
    parser.add_argument(
        '--setting',
        choices=('cpu', 'gpu'),
        default='cpu',
        help='cpu: DeiT-Tiny at 224 pixels; gpu: the published networks at 448 pixels, ours in bfloat16 on the GPU',
    )
    parser.add_argument('--batch', type=int, help='images in a batch; default: that of the case')
    parser.add_argument('--crop', type=int, help='side of the images in pixels; default: that of the case')
    parser.add_argument('--repeat', type=int, default=5, help='turns after the warm-up')
    parser.add_argument('--threads', type=int, help="of the CPU; default: torch's")
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ...; default: what the setting says')
    parser.add_argument('--amp', action='store_true', help='ours in bfloat16; the plain procedure stays in float32')
    parser.add_argument(
        '--peak-tflops', type=float, help='of the device in our precision; default: measured by a large matrix product'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the results there')
    args = parser.parse_args(argv)
    for name in ('batch', 'crop', 'repeat', 'threads', 'peak_tflops'):
        if getattr(args, name) is not None and getattr(args, name) <= 0:
            parser.error(f'--{name.replace("_", "-")} is {getattr(args, name)}; expected more than 0')
    names = [case.name for case in CASES if case.method in args.methods]
    if unknown := set(args.cases or ()) - set(names):
        parser.error(f'--cases has {", ".join(sorted(unknown))}; choose from {", ".join(names)}')
    args.cases = args.cases or names
    args.device = args.device or ('cuda' if args.setting == 'gpu' else 'cpu')
    args.amp = args.amp or args.setting == 'gpu'
    return args


def describe(args: argparse.Namespace, device: torch.device, peak: float) -> dict:
    """Settings that all cases share."""
    return dict(
        setting=args.setting,
        device=torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU',
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        ours_dtype='bfloat16' if args.amp else 'float32',
        reference_dtype='float32',
        repeat=args.repeat,
        peak_tflops=peak / 1e12,
    )


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        print('--setting gpu and --device cuda need a GPU, none was found; --device cpu runs it here', file=sys.stderr)
        return 1
    device = torch.device(args.device)
    console = Console(width=None if sys.stdout.isatty() else 170)
    dtype = torch.bfloat16 if args.amp else torch.float32
    peak = 1e12 * args.peak_tflops if args.peak_tflops else measured_peak(device, dtype)
    results = []
    logging.disable(logging.WARNING)  # building a model lists every weight otherwise
    try:
        with Progress(console=console, transient=True) as progress:
            chosen = [case for case in CASES if case.name in args.cases]
            for case in progress.track(chosen, description='steps'):
                place = case.place(args.setting)
                place = Place(place.config, args.batch or place.batch, args.crop or place.crop)
                try:
                    results.append(run_case(case, place, args, device, peak))
                except (OSError, ValueError) as error:
                    print(f'{case.name}, {place.config}: {error}', file=sys.stderr)
                    return 1
    finally:
        logging.disable(logging.NOTSET)
    settings = describe(args, device, peak)
    caption = '{device}, {threads} threads, torch {torch}, ours {ours_dtype}, plain {reference_dtype}'
    caption = f'{caption.format(**settings)}, peak {peak / 1e12:.2g} TFLOP/s'
    console.print(result_table(results, caption), split_table(results))
    if args.json:
        entries = [
            result.entry() | dict(settings=settings | dict(batch=result.place.batch, crop=result.place.crop))
            for result in results
        ]  # fmt: skip
        write_json(args.json, entries)
        console.print(f'written to {args.json}')
    if wrong := [result for result in results if not result.agrees]:
        gaps = ', '.join(f'{result.case.name} by {result.loss_gap:.1e}' for result in wrong)
        print(f'the losses of both sides differ by more than {TOLERANCE:.0e}: {gaps}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
