"""Time and memory of a training step of a ViT that hands out the attention of none, some or all of its layers."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import torch
from process_memory import peak, reset_peak
from rich.console import Console
from rich.table import Table
from step_clock import now_on
from torch import Tensor

from mmwsss.models.backbones import TokenViT
from mmwsss.utils.files import write_json

CHOICES: dict[str, Sequence[int] | str] = {'none': (), 'last one': (-1,), 'last two': (-2, -1), 'all': 'all'}


@dataclass
class Result:
    """Seconds of each turn, and the most memory in bytes that a step took beyond what was there before."""

    layers: str
    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def entry(self, base: Result) -> dict[str, str | float | None]:
        """What goes into the JSON file."""
        seconds, reference = median(self.seconds), median(base.seconds)
        memory = median(self.memory) if self.memory else None
        return dict(
            name=f'attention_{self.layers.replace(" ", "_")}',
            ours_s=seconds,
            reference_s=reference,
            ratio=reference / seconds,
            memory_bytes=memory,
            more_memory_bytes=memory - median(base.memory) if self.memory and base.memory else None,
        )


def train_step(network: TokenViT, images: Tensor, layers: Sequence[int] | str) -> None:
    """Forward and backward of the tokens and of the attention that was handed out."""
    encoded = network.encode(images, layers)
    loss = encoded.tokens[-1].square().mean() + sum(weights.square().mean() for weights in encoded.attention)
    loss.backward()
    network.zero_grad(set_to_none=True)


def memory_of(step: object, device: torch.device) -> int | None:
    """Most bytes that calling ``step`` takes beyond those in use, None where the system does not tell it."""
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    before = reset_peak()
    step()
    return None if before is None else peak() - before


def measure(network: TokenViT, images: Tensor, repeat: int) -> list[Result]:
    """Steps of all choices in turn, every second turn backwards, after one turn of warm-up."""
    results = [Result(name) for name in CHOICES]
    for turn in range(-1, repeat):
        for result in results if turn % 2 else reversed(results):
            start = now_on(images.device)
            used = memory_of(lambda name=result.layers: train_step(network, images, CHOICES[name]), images.device)
            if turn < 0:
                continue
            result.seconds.append(now_on(images.device) - start)
            if used is not None:
                result.memory.append(used)
    return results


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--arch', default='vit-s', help="of TokenViT, such as 'vit-b'")
    parser.add_argument('--batch', type=int, default=2, help='images in a batch')
    parser.add_argument('--crop', type=int, default=384, help='side of the images in pixels')
    parser.add_argument('--threads', type=int, help="of the CPU; default: torch's")
    parser.add_argument('--repeat', type=int, default=5, help='turns after the warm-up')
    parser.add_argument('--device', default='cpu', help='cpu, cuda, cuda:1, ...')
    parser.add_argument('--json', metavar='FILE', help='write the results there')
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
    try:
        network = TokenViT(arch=args.arch, img_size=args.crop, onednn_linear=False).to(device).train()
    except ValueError as error:
        print(f'--arch: {error}', file=sys.stderr)
        return 1
    images = torch.randn(args.batch, 3, args.crop, args.crop, device=device)
    results = measure(network, images, args.repeat)
    entries = [result.entry(results[0]) for result in results]
    table = Table(caption=f'{args.arch}, {device}, {torch.get_num_threads()} threads, {args.batch} x 3 x {args.crop}²')
    for column in ('layers', 'ms', 'slower %', 'MiB of a step', 'more MiB'):
        table.add_column(column, justify='right')
    for result, entry in zip(results, entries):
        sizes = (entry['memory_bytes'], entry['more_memory_bytes'])
        table.add_row(
            result.layers,
            f'{1e3 * entry["ours_s"]:.0f}',
            f'{100 * (1 / entry["ratio"] - 1):.0f}',
            *('-' if size is None else f'{size / 2**20:.0f}' for size in sizes),
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if args.json:
        write_json(args.json, entries)
        print(f'written to {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
