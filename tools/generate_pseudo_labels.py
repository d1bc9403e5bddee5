"""Write the pseudo masks of a trained weak segmentor as palette PNGs, with a manifest of where they come from.

An interrupted run goes on when it is started again. The folder of masks trains any mmseg model, see configs/stage2.

Example: python tools/generate_pseudo_labels.py configs/vitpcm_voc12mini.py work_dirs/vitpcm_voc12mini \
    --split train --out work_dirs/pseudo_masks --steps crf
Several processes: bash tools/dist_run.sh GPUS generate_pseudo_labels.py CONFIG CHECKPOINT --out DIR
"""

from __future__ import annotations

import argparse
import os

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import init_dist, is_main_process
from mmengine.registry import init_default_scope
from mmengine.utils.dl_utils import set_multi_processing
from torch import nn

from mmwsss.apis import launch
from mmwsss.apis.models import check_device, load_model, recipe_names, use_steps
from mmwsss.datasets.checks import DatasetError
from mmwsss.pseudo_labels.export import ExportResult, export_pseudo_labels
from mmwsss.pseudo_labels.export_data import ExportError, export_dataset_cfg
from mmwsss.pseudo_labels.manifest import ExportSource
from mmwsss.registry import DATASETS, MODELS


def parse_args() -> argparse.Namespace:
    """Arguments; the checkpoint may also be a work dir."""
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    launch.add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file, or a work dir whose latest checkpoint is taken')
    parser.add_argument('--split', default='train', help='train, val, test, or a file with one image id a line')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of masks/ and manifest.json')
    parser.add_argument(
        '--steps',
        metavar='NAME_OR_FILE',
        help='pseudo labeler in the place of the one of the model: a config file with pseudo_labeler = '
        f'dict(steps=[...]), or the name of one in configs/_base_/pseudo_labels ({", ".join(recipe_names())})',
    )
    parser.add_argument('--maps', action='store_true', help='keep the maps that the masks are decided from in DIR/maps')
    parser.add_argument('--workers', type=int, default=2, help='threads for refinement and writing (default: 2)')
    parser.add_argument('--device', help='where to run (default: the GPU if there is one)')
    parser.add_argument('--overwrite', action='store_true', help='remove what lies in DIR from another export')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')
    args = parser.parse_args()
    args.work_dir = args.out  # nothing else is written
    if args.workers < 0:
        parser.error(f'--workers has to be 0 or more, got {args.workers}')
    return args


def build_model(cfg: Config, checkpoint: str, device: str) -> nn.Module:
    """Model of ``cfg`` with the weights of ``checkpoint``.

    Raises:
        UsageError: the model makes no localization maps, or see :func:`~mmwsss.apis.models.load_model`.
    """
    kind = MODELS.get(cfg.model.type)
    if kind is not None and not hasattr(kind, 'viewed_outputs'):
        raise launch.UsageError(f'{kind.__name__} makes no localization maps; give the config of a weak segmentor')
    return load_model(cfg, checkpoint, device)[0]


def start_processes(args: argparse.Namespace) -> tuple[Config, str]:
    """Config and device of this process; joins the process group of the launcher.

    Raises:
        UsageError: the config cannot be read, the launcher needs a GPU, or there is no such device.
    """
    cfg = launch.load_run_config(args)
    env_cfg = cfg.get('env_cfg', {})
    set_multi_processing(**env_cfg.get('mp_cfg', {}), distributed=args.launcher != 'none')
    if args.launcher != 'none' and not torch.distributed.is_initialized():  # on a CPU it already is
        init_dist(args.launcher, **env_cfg.get('dist_cfg', {'backend': 'nccl'}))
    device = check_device(args.device) if args.device else get_device()
    if device == 'cuda' and args.launcher != 'none':
        device = f'cuda:{torch.cuda.current_device()}'
    return cfg, device


def summary(result: ExportResult) -> str:
    """The last line of the output."""
    parts = ['nothing to write']
    if result.written:
        speed = result.written / result.seconds
        parts = [f'{result.written} written in {result.seconds:.1f} s ({speed:.2f} images/s)']
    if result.skipped:
        parts.append(f'{result.skipped} were there already')
    parts += [f'{name} {value}' for name, value in result.manifest['scores'].items()]
    labels = 'with' if result.manifest['used_image_labels'] else 'without'
    return f'{result.masks}: {"; ".join(parts)}; made {labels} image labels'


def main() -> None:
    """Read the arguments, check what can be checked at once, export."""
    args = parse_args()
    checkpoint = launch.find_checkpoint(args.checkpoint)
    if not os.path.isfile(checkpoint):
        raise launch.UsageError(f'checkpoint {checkpoint} has to be a file: its SHA-256 goes into the manifest')
    named = launch.load_config(args.config, args.cfg_options)  # without what the launcher adds to it
    init_default_scope(named.get('default_scope', 'mmwsss'))
    cfg, device = start_processes(args)
    steps = use_steps(cfg, args.steps)
    try:
        dataset_cfg = export_dataset_cfg(cfg, args.split)
        source = ExportSource.of(named, args.split, steps, dataset_cfg, checkpoint)
        model = build_model(cfg, checkpoint, device)
        try:
            dataset = DATASETS.build(dataset_cfg)
        except ValueError as error:
            raise error if isinstance(error, DatasetError) else ExportError(str(error)) from error
        loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
        result = export_pseudo_labels(
            model,
            dataset,
            args.out,
            source,
            batch_size=loader.get('batch_size', 1),
            num_workers=loader.get('num_workers', 0),
            workers=args.workers,
            overwrite=args.overwrite,
            store_maps=args.maps,
        )
    except ExportError as error:
        raise launch.UsageError(str(error)) from error
    if is_main_process():
        print(summary(result))


if __name__ == '__main__':
    launch.run_cli(main)
