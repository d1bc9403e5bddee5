"""Time and memory of a training step of a ViT that hands out the attention of none, some or all of its layers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from shared_arguments import AtLeastOne, add_run_arguments
from step_clock import now_on
from torch import Tensor

from mmwsss.models.backbones import TokenViT
from mmwsss.utils.files import write_json

CHOICES: dict[str, Sequence[int] | str] = {'none': (), 'last one': (-1,), 'last two': (-2, -1), 'all': 'all'}


@dataclass
class Result:
    """Seconds of each turn, and the bytes that the forward pass keeps for the backward pass."""

    layers: str
    memory: int
    seconds: list[float] = field(default_factory=list)

    def entry(self, base: Result) -> dict[str, str | float | int]:
        """What goes into the JSON file."""
        seconds, reference = median(self.seconds), median(base.seconds)
        return dict(
            name=f'attention_{self.layers.replace(" ", "_")}',
            ours_s=seconds,
            reference_s=reference,
            ratio=reference / seconds,
            memory_bytes=self.memory,
            more_memory_bytes=self.memory - base.memory,
        )


def train_step(network: TokenViT, images: Tensor, layers: Sequence[int] | str) -> None:
    """Forward and backward of the tokens and of the attention that was handed out."""
    encoded = network.encode(images, layers)
    loss = encoded.tokens[-1].square().mean() + sum(weights.square().mean() for weights in encoded.attention)
    loss.backward()
    network.zero_grad(set_to_none=True)


def kept_bytes(network: TokenViT, images: Tensor, layers: Sequence[int] | str) -> int:
    """Bytes that the forward pass keeps for the backward pass, weights not counted.

    Counted tensor by tensor: the resident size of a process says little, as the allocator keeps what is freed.
    """
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, Tensor] = {}  # by address, and alive, so that no address is used twice

    def note(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in weights:
            kept[address] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        encoded = network.encode(images, layers)
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del encoded
    return size


def measure(network: TokenViT, images: Tensor, repeat: int) -> list[Result]:
    """Steps of all choices in turn, every second turn backwards, after one turn of warm-up."""
    results = [Result(name, kept_bytes(network, images, layers)) for name, layers in CHOICES.items()]
    for turn in range(-1, repeat):
        for result in results if turn % 2 else reversed(results):
            start = now_on(images.device)
            train_step(network, images, CHOICES[result.layers])
            if turn >= 0:
                result.seconds.append(now_on(images.device) - start)
    return results


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--arch', default='vit-s', help="of TokenViT, such as 'vit-b'")
    parser.add_argument('--batch', action=AtLeastOne, default=2, help='images in a batch')
    parser.add_argument('--crop', action=AtLeastOne, default=384, help='side of the images in pixels')
    add_run_arguments(parser, repeat=5)
    return parser.parse_args(argv)


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
    for column in ('layers', 'ms', 'slower %', 'MiB kept', 'more MiB'):
        table.add_column(column, justify='right')
    for result, entry in zip(results, entries):
        table.add_row(
            result.layers,
            f'{1e3 * entry["ours_s"]:.0f}',
            f'{100 * (1 / entry["ratio"] - 1):.0f}',
            f'{entry["memory_bytes"] / 2**20:.0f}',
            f'{entry["more_memory_bytes"] / 2**20:.0f}',
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if args.json:
        write_json(args.json, entries)
        print(f'written to {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
