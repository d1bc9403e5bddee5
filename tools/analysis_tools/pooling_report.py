"""Show how many patches K the pooling of a checkpoint took of each class and image, and where they lie.

Writes counts.csv (a line per image and class), histogram.png, images/NAME.png and report.json. Only the classes of the
image labels are looked at, the background included where the head has it.

Example: python tools/analysis_tools/pooling_report.py configs/apc_shapes.py work_dirs/apc_shapes --split val
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from mmwsss.apis import launch
from mmwsss.apis.testing import load_weights, one_line, read_checkpoint
from mmwsss.datasets.checks import DatasetError
from mmwsss.evaluation.record import circumstances, config_sha256
from mmwsss.pseudo_labels.export_data import export_dataset_cfg, image_ids
from mmwsss.registry import DATASETS, MODELS
from mmwsss.visualization.pooling_report import write_report
from mmwsss.visualization.pooling_statistics import ClassSummary, check_pooling, pooled_images, summarize


def parse_args() -> argparse.Namespace:
    """Arguments; the checkpoint may also be a work dir."""
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    launch.add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file, or a work dir whose latest checkpoint is taken')
    parser.add_argument('--out', metavar='DIR', help='folder of the report (default: pooling_report by the checkpoint)')
    parser.add_argument('--split', default='val', help='train, val (default), test, or a file with one image id a line')
    parser.add_argument('--num-images', type=int, default=16, metavar='N', help='pictures to draw (default: 16)')
    parser.add_argument('--limit', type=int, metavar='N', help='look at the first N images of the split (default: all)')
    args = parser.parse_args()
    if args.num_images < 0:
        parser.error(f'--num-images has to be 0 or more, got {args.num_images}')
    if args.limit is not None and args.limit < 1:
        parser.error(f'--limit has to be 1 or more, got {args.limit}')
    if args.out is None and '://' in args.checkpoint:
        parser.error('a checkpoint from the net needs --out DIR')
    return args


def build_model(cfg: Config, config: str, checkpoint: str) -> nn.Module:
    """Model of ``cfg``, ready for prediction, with the weights of ``checkpoint``.

    Raises:
        UsageError: it cannot be built so, its head does not pool patch scores, or the weights do not belong to it.
    """
    try:
        model = MODELS.build(cfg.model)
        check_pooling(model.eval())
    except ValueError as error:
        raise launch.UsageError(f'{config}: {one_line(error)}') from error
    load_weights(model, read_checkpoint(checkpoint), checkpoint)
    return model.to(get_device())


def build_dataset(cfg: Config, split: str) -> tuple[BaseDataset, list[str]]:
    """Images of ``split`` through the test pipeline, and their ids.

    Raises:
        UsageError: the config lacks what the split needs, or there are no images.
    """
    try:
        dataset = DATASETS.build(export_dataset_cfg(cfg, split))
        names = image_ids(dataset)
    except DatasetError:
        raise
    except ValueError as error:
        raise launch.UsageError(one_line(error)) from error
    if not names:
        raise launch.UsageError(f'the split {split} has no images; choose another --split')
    return dataset, names


def build_table(summaries: list[ClassSummary]) -> Table:
    """Table with one row per class; the best score is a mean over images."""
    table = Table()
    table.add_column('class', no_wrap=True)
    for column in ('images', 'mean K', 'median', 'min', 'max', 'best score', 'on class'):
        table.add_column(column, justify='right')
    for entry in summaries:
        share = '-' if entry.share is None else f'{100 * entry.share:.1f} %'
        numbers = (f'{entry.mean:.2f}', f'{entry.median:g}', str(entry.lowest), str(entry.highest))
        table.add_row(entry.name, str(entry.images), *numbers, f'{entry.best:.3f}', share)
    return table


def main() -> None:
    """Check what can be checked at once, run the network, write the report."""
    args = parse_args()
    checkpoint = launch.find_checkpoint(args.checkpoint)
    out = Path(args.out) if args.out else Path(checkpoint).parent / 'pooling_report'
    cfg = launch.load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmwsss'))
    model = build_model(cfg, args.config, checkpoint)
    dataset, names = build_dataset(cfg, args.split)
    names = names[: args.limit]
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
    images = pooled_images(model, dataset, names, loader.get('batch_size', 1), loader.get('num_workers', 0))
    record: dict[str, Any] = {
        'config': {'filename': cfg.filename, 'sha256': config_sha256(cfg)},
        'checkpoint': checkpoint,
        'split': args.split,
        'num_images': len(names),
        'pooling': repr(model.head.pooling),
        'test_cfg': dict(model.test_cfg),
        **circumstances(),
    }
    classes, palette = dataset.metainfo['classes'], dataset.metainfo['palette']
    title = f'{Path(args.config).stem}, {Path(checkpoint).name}, {args.split}\n{model.head.pooling!r}'
    shown = track(images, 'pooling', total=len(names), console=Console(stderr=True))
    try:
        counts = write_report(out, shown, classes, palette, args.num_images, title, record, dataset.ignore_index)
    except DatasetError:
        raise
    except ValueError as error:
        raise launch.UsageError(one_line(error)) from error
    Console(highlight=False, markup=False).print(build_table(summarize(counts, classes)))
    print(f'report: {out / "counts.csv"}, histogram.png, images and report.json beside it')


if __name__ == '__main__':
    launch.run_cli(main)
