"""What adaptive pooling and patch contrast cost in a training step of APC, side by side in one run."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from statistics import median

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.structures import SegDataSample
from rich.console import Console
from rich.table import Table
from shared_arguments import AtLeastOne, add_run_arguments
from step_batches import draw_batch
from step_clock import now_on
from torch import Tensor

from mmwsss.models.segmentors import APC
from mmwsss.registry import MODELS, POOLINGS
from mmwsss.utils.files import write_json

CONFIG = Path(__file__).parents[2] / 'configs/apc/apc_deit-t16_1xb16-2k_voc12mini-224x224.py'
BASE = 'max pooling + decoder'
ADAPTIVE, FIXED = '+ adaptive-K pooling', '+ top-6 pooling'
CONTRAST, FULL = '+ patch contrast', 'APC'


class Side:
    """One variant of ``model`` with an optimizer of its own."""

    def __init__(self, model: APC, config: Config, pooling: dict | None, contrast: bool, device: torch.device) -> None:
        self.model = deepcopy(model).to(device).train()
        self.model.iteration = self.model.warmup_iters
        if pooling is not None:
            self.model.head.pooling = POOLINGS.build(pooling)
        if not contrast:
            self.model.loss_pce = None
        self.wrapper = build_optim_wrapper(self.model, config.optim_wrapper)

    def step(self, images: Tensor, samples: list[SegDataSample]) -> None:
        """Forward, backward and update."""
        total, _ = self.model.parse_losses(self.model.loss(images, samples))
        self.wrapper.update_params(total)


def load_sides(config: Config, device: torch.device) -> dict[str, Side]:
    """The variants, all with the weights of one draw.

    Raises:
        ValueError: the config is of another method, or without contrast or decoder.
    """
    init_default_scope(config.get('default_scope', 'mmwsss'))
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model)
    if not isinstance(model, APC) or model.loss_pce is None or not model.segments:
        raise ValueError(f'the model is no APC with contrast and decoder but {type(model).__name__}')
    model.init_weights()
    top6 = dict(type='TopKPooling', k=6)
    best = dict(type='GlobalMaxPooling')
    variants = {
        BASE: (best, False),
        FIXED: (top6, False),
        ADAPTIVE: (None, False),
        CONTRAST: (best, True),
        FULL: (None, True),
    }
    return {name: Side(model, config, *variant, device) for name, variant in variants.items()}


def time_sides(
    sides: dict[str, Side], batches: Sequence[tuple[Tensor, list[SegDataSample]]], device: torch.device
) -> dict[str, list[float]]:
    """Seconds of every step, the sides in turn and every second turn backwards, after one turn of warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(-1, len(batches)):
        batch = batches[max(turn, 0)]
        for name in sides if turn % 2 else reversed(sides):
            start = now_on(device)
            sides[name].step(*batch)
            if turn >= 0:
                seconds[name].append(now_on(device) - start)
    return seconds


def summarise(seconds: dict[str, list[float]]) -> list[dict[str, str | float]]:
    """Median step of each side, and the median over turns of its ratio to the base in the same turn."""
    base = seconds[BASE]
    return [
        dict(
            name=name,
            ours_s=median(own),
            reference_s=median(base),
            ratio=median(first / second for first, second in zip(base, own)),
            overhead_percent=100 * (median(second / first for first, second in zip(base, own)) - 1),
        )
        for name, own in seconds.items()
    ]


def make_batch(model: APC, size: int, crop: int, seed: int, device: torch.device) -> tuple[Tensor, list[SegDataSample]]:
    """Generated scenes with labels and boxes."""
    batch = draw_batch(model, size, crop, seed)
    return batch.views['view_1'].to(device), [sample.to(device) for sample in batch.data()['data_samples']]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--config', type=Path, default=CONFIG, help='of APC with contrast and decoder')
    parser.add_argument('--batch', action=AtLeastOne, default=16, help='images in a batch')
    parser.add_argument('--crop', action=AtLeastOne, default=224, help='side of the images in pixels')
    add_run_arguments(parser, repeat=9)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    try:
        logging.disable(logging.WARNING)  # lists every weight otherwise
        sides = load_sides(Config.fromfile(args.config), device)
    except (OSError, ValueError) as error:
        print(f'{args.config}: {error}', file=sys.stderr)
        return 1
    finally:
        logging.disable(logging.NOTSET)
    batches = [make_batch(sides[BASE].model, args.batch, args.crop, seed, device) for seed in range(args.repeat)]
    results = summarise(time_sides(sides, batches, device))
    place = torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'
    table = Table(
        caption=f'{place}, {torch.get_num_threads()} threads, torch {torch.__version__}, '
        f'{args.batch} x 3 x {args.crop} x {args.crop}'
    )
    table.add_column('step', no_wrap=True)
    table.add_column('ms', justify='right')
    table.add_column('overhead %', justify='right')
    for result in results:
        table.add_row(result['name'], f'{1e3 * result["ours_s"]:.0f}', f'{result["overhead_percent"]:.1f}')
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if args.json:
        write_json(args.json, results)
        print(f'written to {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
