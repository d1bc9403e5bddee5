"""Write one HTML page about one or several runs: scores, classes, training, threshold, confusion, pictures.

The checkpoint of each work dir is run over the images once; what the page needs of them is kept in WORK_DIR/report and
used again. The page needs no net and no other file.

Example: python tools/report.py work_dirs/vitpcm_voc12mini work_dirs/apc_voc12mini --out report.html
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmwsss.apis import launch
from mmwsss.utils.files import replacing

from .collect import Run, collect_runs
from .evaluate import check_classes, evaluate, load_run_config
from .page import build_page


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Arguments of the tool; ``None`` reads those of the command line."""
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='folder of a training; several are compared')
    parser.add_argument('--out', metavar='FILE', help='the page (default: report.html in the first WORK_DIR)')
    parser.add_argument('--split', default='val', help='train, val (default), test, or a file with one image id a line')
    parser.add_argument(
        '--images',
        type=int,
        metavar='N',
        help='show N images, evenly spread over the split (default: all); scores are of all in any case',
    )
    parser.add_argument(
        '--checkpoint', nargs='+', default=(), metavar='FILE', help='instead of the latest one, for each WORK_DIR'
    )
    parser.add_argument(
        '--config', nargs='+', default=(), metavar='CONFIG', help='instead of that of the training, for each WORK_DIR'
    )
    parser.add_argument(
        '--predictions',
        nargs='+',
        default=(),
        metavar='FOLDER',
        help='show and score masks that tools/test.py --out wrote, a folder for each WORK_DIR; no checkpoint is run',
    )
    parser.add_argument(
        '--no-evaluation', action='store_true', help='run no checkpoint; show what logs and records of other tools hold'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=launch.OptionsAction,
        metavar='KEY=VALUE',
        help='override settings of the configs, for example val_dataloader.dataset.data_root=data/voc12_mini',
    )
    args = parser.parse_args(arguments)
    if args.images is not None and args.images < 0:
        parser.error(f'--images has to be 0 or more, got {args.images}')
    if args.predictions and args.no_evaluation:
        parser.error('--predictions scores masks; leave out --no-evaluation')
    if args.predictions and len(args.predictions) != len(args.work_dirs):
        parser.error(
            f'--predictions needs one folder for each WORK_DIR: got {len(args.predictions)} for {len(args.work_dirs)}'
        )
    return args


def evaluate_runs(runs: Sequence[Run], args: argparse.Namespace) -> None:
    """Give every run its evaluation; one without weights or config goes without, which the page says.

    Raises:
        UsageError: nothing was run yet when a config, a split or a folder of masks turns out to be wrong, or when the
            data of the runs have different classes.
    """
    folders = args.predictions or [None] * len(runs)
    if missing := [folder for folder in args.predictions if not Path(folder).is_dir()]:
        raise launch.UsageError(f'--predictions: {missing[0]} is no folder')
    ready = [(run, folder) for run, folder in zip(runs, folders) if run.config and (run.checkpoint or folder)]
    configs = [load_run_config(run, args.cfg_options) for run, _ in ready]
    check_classes([(run, cfg) for (run, _), cfg in zip(ready, configs)], args.split)
    for (run, folder), cfg in zip(ready, configs):
        run.evaluation = evaluate(run, cfg, args.split, folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the arguments, evaluate what is not yet evaluated, write the page."""
    args = parse_args(arguments)
    runs = collect_runs(args.work_dirs, args.checkpoint, args.config)
    out = Path(args.out) if args.out else Path(args.work_dirs[0]) / 'report.html'
    if out.is_dir():
        raise launch.UsageError(f'--out {out} is a folder; name a file')
    if not args.no_evaluation:
        evaluate_runs(runs, args)
    page = build_page(runs, args.split, args.images)
    with replacing(out) as temporary:
        temporary.write_text(page, encoding='utf-8')
    for run in runs:
        if run.evaluation is None and run.obstacle and not args.no_evaluation:
            print(f'{run.folder}: {run.obstacle}')
    print(f'report: {out} ({out.stat().st_size / 1e6:.1f} MB)')
