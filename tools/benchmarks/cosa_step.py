"""Time of a training step of CoSA against the released procedure written plainly, side by side in one run."""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from cosa_reference import PlainCoSA
from cosa_sides import Batch, OurCoSA, draw_batch, load_model
from mmengine.config import Config
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from step_clock import SECTIONS, Clock, now_on
from torch import Tensor

from mmwsss.models.segmentors import CoSA
from mmwsss.utils.files import write_json

CONFIG = Path(__file__).parents[2] / 'configs/cosa/cosa_deit-t16_1xb4-1300_voc12mini-224x224_released.py'
TOLERANCE = 1e-3  # of the losses, relative
Side = OurCoSA | PlainCoSA


@dataclass
class Result:
    """Seconds of each turn, and how far the losses and gradients of both sides are apart."""

    name: str
    ours: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    loss_gap: float = 0.0
    gradient_gap: float = 0.0

    @property
    def ours_s(self) -> float:
        """Median of ours."""
        return median(self.ours)

    @property
    def reference_s(self) -> float:
        """Median of the reference."""
        return median(self.reference)

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.reference_s / self.ours_s

    def entry(self) -> dict[str, str | float]:
        """What goes into the JSON file."""
        keys = ('name', 'ours_s', 'reference_s', 'ratio')
        gaps = dict(max_rel_loss_diff=self.loss_gap, max_rel_grad_diff=self.gradient_gap)
        return {key: getattr(self, key) for key in keys} | gaps


def loss_gap(ours: dict[str, Tensor], reference: dict[str, Tensor]) -> float:
    """Largest relative difference of the losses that both sides have; nan counts as infinitely far."""
    gaps = [float((ours[name] - value).abs() / value.abs()) for name, value in reference.items() if name in ours]
    return max(math.inf if math.isnan(gap) else gap for gap in gaps)


def gradient_gap(ours: Side, reference: Side) -> float:
    """Norm of the difference of all gradients as a share of the reference's."""
    theirs = {name: weight.grad for name, weight in reference.online.named_parameters() if weight.requires_grad}
    own = dict(ours.online.named_parameters())
    differences = [torch.linalg.vector_norm(own[name].grad - grad) for name, grad in theirs.items()]
    norms = [torch.linalg.vector_norm(grad) for grad in theirs.values()]
    return float(torch.stack(differences).norm() / torch.stack(norms).norm())


class Comparison:
    """Both sides of the cases, with the weights that ``model`` has now before every step.

    Raises:
        ValueError: the reference does not know the model or the optimizer of ``config``.
    """

    def __init__(self, model: CoSA, config: Config, device: torch.device) -> None:
        self.clocks = {name: Clock(device) for name in ('ours', 'bf16', 'reference')}
        rates = config.optim_wrapper.get('paramwise_cfg', {}).get('custom_keys', {})
        optimizer = dict(config.optim_wrapper.optimizer)
        if (kind := optimizer.pop('type')) != 'AdamW':
            raise ValueError(f'the optimizer of the config is {kind}; the reference only knows AdamW')
        half = deepcopy(model)
        half.assignment_dtype = torch.bfloat16
        self.initial = {name: deepcopy(getattr(model, name).state_dict()) for name in ('online', 'assignment')}
        self.sides: dict[str, Side] = dict(
            ours=OurCoSA(model, config, self.clocks['ours']),
            bf16=OurCoSA(half, config, self.clocks['bf16']),
            reference=PlainCoSA(model, optimizer, rates.get('head', {}).get('lr_mult', 1.0), self.clocks['reference']),
        )
        self.device = device

    def run(self, cases: dict[str, str], batches: Sequence[Batch], idle: bool, advance: Callable) -> list[Result]:
        """Time the sides in turn after a warm-up, forwards and backwards; ``cases`` are names and our sides of each."""
        results = {side: Result(name) for name, side in cases.items()}
        order = [*results, 'reference']
        for turn in range(-1, len(batches)):
            batch = batches[max(turn, 0)].to(self.device)
            losses, seconds = {}, {}
            for name in order if turn % 2 else reversed(order):
                losses[name], seconds[name] = self._step(name, batch, idle)
                advance()
            if turn < 0:
                continue
            for side, result in results.items():
                result.ours.append(seconds[side])
                result.reference.append(seconds['reference'])
                result.loss_gap = max(result.loss_gap, loss_gap(losses[side], losses['reference']))
                gap = gradient_gap(self.sides[side], self.sides['reference'])
                result.gradient_gap = max(result.gradient_gap, gap)
        return list(results.values())

    def profile(self, batches: Sequence[Batch], idle: bool) -> dict[str, dict[str, float]]:
        """Median seconds of each section for each side."""
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in self.sides}
        for batch in batches:
            for name, clock in self.clocks.items():
                clock.seconds.clear()
                clock.running = True
                self._step(name, batch.to(self.device), idle)
                clock.running = False
                turns[name].append(dict(clock.seconds))
        return {
            name: {section: median(turn.get(section, 0.0) for turn in own) for section in SECTIONS}
            for name, own in turns.items()
        }

    def _step(self, name: str, batch: Batch, idle: bool) -> tuple[dict[str, Tensor], float]:
        side = self.sides[name]
        for network, state in self.initial.items():
            getattr(side, network).load_state_dict(state)
        start = now_on(self.device)
        losses = side.step(*batch, idle)
        return {key: value.detach() for key, value in losses.items()}, now_on(self.device) - start


def result_table(results: Sequence[Result], caption: str) -> Table:
    """One row for each case."""
    table = Table(caption=caption)
    table.add_column('case', no_wrap=True)
    for column in ('ours ms', 'reference ms', 'ratio', 'loss diff', 'gradient diff'):
        table.add_column(column, justify='right')
    for result in results:
        times = (f'{1e3 * result.ours_s:.0f}', f'{1e3 * result.reference_s:.0f}', f'{result.ratio:.2f}')
        table.add_row(result.name, *times, f'{result.loss_gap:.1e}', f'{result.gradient_gap:.1e}')
    return table


def profile_table(title: str, profiles: dict[str, dict[str, float]]) -> Table:
    """Milliseconds and shares of the sections for each side."""
    table = Table(title=title)
    table.add_column('section', no_wrap=True)
    for name in profiles:
        table.add_column(f'{name} ms', justify='right')
        table.add_column('%', justify='right')
    totals = {name: sum(profile.values()) for name, profile in profiles.items()}
    for section in (*SECTIONS, None):
        cells = []
        for name, profile in profiles.items():
            seconds = totals[name] if section is None else profile[section]
            cells += [f'{1e3 * seconds:.1f}', f'{100 * seconds / totals[name]:.0f}']
        table.add_row(section or 'sum', *cells, end_section=section == SECTIONS[-1])
    return table


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--config', type=Path, default=CONFIG, help='of a released variant; default: the small one')
    parser.add_argument('--pretrained', action='store_true', help='load the weights that the config names')
    parser.add_argument('--batch', type=int, default=4, help='images in a batch')
    parser.add_argument('--crop', type=int, default=224, help='side of the images in pixels')
    parser.add_argument('--threads', type=int, help="of the CPU; default: torch's")
    parser.add_argument('--repeat', type=int, default=5, help='turns after the warm-up')
    parser.add_argument('--device', default='cpu', help='cpu, cuda, cuda:1, ...')
    parser.add_argument('--profile', action='store_true', help='also tell where the time goes, in turns of their own')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the results there')
    args = parser.parse_args(argv)
    for name in ('batch', 'crop', 'repeat', 'threads'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name} is {getattr(args, name)}; expected at least 1')
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        logging.disable(logging.WARNING)  # lists every weight otherwise
        config = Config.fromfile(args.config)
        comparison = Comparison(load_model(config, args.pretrained, device), config, device)
    except (OSError, ValueError) as error:
        print(f'{args.config}: {error}', file=sys.stderr)
        return 1
    finally:
        logging.disable(logging.NOTSET)
    batches = [
        draw_batch(comparison.sides['ours'].model, args.batch, args.crop, seed) for seed in range(args.repeat)
    ]  # fmt: skip
    cases = (
        (False, dict(cosa_step='ours', cosa_step_bf16_assignment='bf16')),
        (True, dict(cosa_warmup_step='ours')),
    )
    results, profiles = [], {}
    with Progress(console=console, transient=True) as progress:
        steps = sum(1 + len(own) for _, own in cases) * (1 + args.repeat)
        task = progress.add_task('steps', total=steps)
        for idle, own in cases:
            results += comparison.run(own, batches, idle, lambda: progress.advance(task))
            if args.profile:
                profiles['warm-up step' if idle else 'step'] = comparison.profile(batches, idle)
    place = torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'
    caption = f'{place}, {torch.get_num_threads()} threads, torch {torch.__version__}, {args.batch} x 3 x {args.crop}'
    console.print(result_table(results, f'{caption} x {args.crop}'))
    for title, profile in profiles.items():
        console.print(profile_table(title, profile))
    if args.json:
        shared = dict(batch=args.batch, crop=args.crop, threads=torch.get_num_threads(), device=place)
        write_json(args.json, [result.entry() | shared for result in results])
        console.print(f'written to {args.json}')
    worst = max(result.loss_gap for result in results if 'bf16' not in result.name)
    if not worst < TOLERANCE:
        print(f'the losses of both sides differ by {worst:.1e}, more than {TOLERANCE:.0e}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
