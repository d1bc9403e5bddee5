"""Time and memory of the refiners against straightforward references, side by side in one run."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch
from process_memory import peak, reset_peak
from refiner_cases import CASES, CELL, PREPARE, Case, Work, load_images, reference_name
from refiner_references import pydensecrf_name
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from shared_arguments import AtLeastOne
from torch import Tensor

from mmwsss.utils.files import write_json

COLUMNS = ('B x C x H x W', 'present', 'ours ms', 'ref. ms', 'ratio', 'ours MiB', 'ref. MiB', 'share', 'max diff')


@dataclass(frozen=True)
class Result:
    """Medians in seconds, largest difference over the present channels, peak memory in bytes (None if unknown)."""

    case: Case
    reference: str
    ours_s: float
    reference_s: float
    max_abs_diff: float
    ours_peak: int | None
    reference_peak: int | None

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.reference_s / self.ours_s

    @property
    def peak_mem_ratio(self) -> float | None:
        """Our peak memory as a share of the reference's."""
        return self.ours_peak / self.reference_peak if self.ours_peak is not None and self.reference_peak else None

    def entry(self) -> dict[str, str | float | None]:
        """What goes into the JSON file."""
        keys = ('ours_s', 'reference_s', 'ratio', 'peak_mem_ratio', 'max_abs_diff', 'reference')
        return {'name': self.case.name, **{key: getattr(self, key) for key in keys}}


def timed(work: Work, device: torch.device) -> tuple[float, Tensor]:
    """Seconds that one call takes, and what it returns."""
    _wait(device)
    start = time.perf_counter()
    result = work()
    _wait(device)
    return time.perf_counter() - start, result


def _wait(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def peak_memory(case: Case, ours: bool, image: Tensor, device: str, threads: int) -> int | None:
    """Bytes by which one call raises the peak memory of this process, on a GPU those of torch; None if unknown.

    The call is made once at a small size first, so that libraries and compiled code do not count.
    """
    torch.set_num_threads(threads)
    target = torch.device(device)
    on_gpu = target.type == 'cuda'
    if on_gpu and not ours and case.kind == 'crf' and pydensecrf_name():
        return None  # works in the memory of the host, which is not comparable
    prepare = PREPARE[case.kind]
    small = replace(case, height=4 * CELL, width=4 * CELL)
    prepare(small, image[..., : small.height, : small.width].to(target), ours)()
    work = prepare(case, image.to(target), ours)
    gc.collect()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(target)
        before = torch.cuda.memory_allocated(target)
        work()
        return torch.cuda.max_memory_allocated(target) - before
    before = reset_peak()
    work()
    after = peak()
    return None if before is None or after is None else after - before


def in_fresh_process(case: Case, ours: bool, image: Tensor, device: str) -> int | None:
    """:func:`peak_memory` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn')) as pool:
        return pool.submit(peak_memory, case, ours, image, device, torch.get_num_threads()).result()


@torch.no_grad()
def run_case(
    case: Case,
    images: Sequence[Tensor],
    repeat: int,
    device: str = 'cpu',
    memory: bool = True,
    advance: Callable[[], None] = lambda: None,
) -> Result:
    """Compare both sides of ``case`` on ``images`` in turn, ``repeat`` times after a warm-up, calling ``advance``."""
    target = torch.device(device)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    difference = 0.0
    for turn in range(-1, repeat):
        image = images[max(turn, 0) % len(images)].to(target)
        results = {}
        for ours in (True, False):
            work = PREPARE[case.kind](case, image, ours)
            spent, results[ours] = timed(work, target)
            if turn >= 0:
                seconds[ours].append(spent)
        present = slice(0, case.present)
        gap = results[True][:, present] - results[False][:, present].to(results[True].device)
        difference = max(difference, gap.abs().max().item())
        advance()
    peaks = [in_fresh_process(case, ours, images[0], device) if memory else None for ours in (True, False)]
    return Result(
        case, reference_name(case.kind), *(median(seconds[ours]) for ours in (True, False)), difference, *peaks
    )


def build_table(results: Sequence[Result], device: str) -> Table:
    """One row for each result."""
    name = torch.cuda.get_device_name(device) if torch.device(device).type == 'cuda' else 'CPU'
    table = Table(caption=f'{name}, {torch.get_num_threads()} threads, torch {torch.__version__}')
    table.add_column('case', no_wrap=True)
    for column in COLUMNS:
        table.add_column(column, justify='right')
    table.add_column('reference', overflow='fold')
    for result in results:
        case = result.case
        table.add_row(
            case.name,
            f'1 x {case.channels} x {case.height} x {case.width}',
            str(case.present),
            f'{1e3 * result.ours_s:.1f}',
            f'{1e3 * result.reference_s:.1f}',
            f'{result.ratio:.1f}',
            *(_mebibytes(peak) for peak in (result.ours_peak, result.reference_peak)),
            '-' if result.peak_mem_ratio is None else f'{100 * result.peak_mem_ratio:.0f} %',
            f'{result.max_abs_diff:.1e}',
            result.reference,
        )
    return table


def _mebibytes(size: int | None) -> str:
    return '-' if size is None else f'{size / 2**20:.0f}'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument(
        '--only', nargs='+', choices=names, default=names, metavar='NAME', help=f'of {", ".join(names)}'
    )
    parser.add_argument('--images', type=Path, help='folder of photographs; default: generated scenes')
    parser.add_argument('--repeat', action=AtLeastOne, default=5, help='pairs of runs after the warm-up')
    parser.add_argument('--device', default='cpu', help='cpu, cuda, cuda:1, ...')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the results there')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    chosen = [case for case in CASES if case.name in args.only]
    results = []
    console = Console(width=None if sys.stdout.isatty() else 170)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task('', total=len(chosen) * (args.repeat + 1))
        for case in chosen:
            progress.update(task, description=case.name)
            try:
                images = load_images(args.images, args.repeat, case.height, case.width)
            except OSError as error:
                print(error, file=sys.stderr)
                return 1
            results.append(run_case(case, images, args.repeat, args.device, advance=lambda: progress.advance(task)))
    console.print(build_table(results, args.device))
    if args.json:
        write_json(args.json, [result.entry() for result in results])
        console.print(f'written to {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
