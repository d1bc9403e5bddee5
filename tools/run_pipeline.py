"""Run the stages of a pipeline in order, from the first that is not done.

Example: python tools/run_pipeline.py configs/pipelines/vitpcm_voc12mini.py --work-dir work_dirs/pipeline
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmwsss.apis import launch
from mmwsss.apis.pipeline import Pipeline, load_stages


def parse_args() -> argparse.Namespace:
    """Arguments of the command line."""
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='pipeline config with stages = [dict(name=..., kind=..., config=...), ...]')
    parser.add_argument('--work-dir', metavar='DIR', help='where every stage has its folder (default: work_dirs/NAME)')
    parser.add_argument(
        '--gpus',
        type=int,
        default=0,
        help='processes of each stage that does not say its own (default: one for all, without a launcher)',
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument('--from', dest='first', metavar='STAGE', help='run this stage again and all after it')
    which.add_argument('--only', metavar='STAGE', help='run this stage alone')
    parser.add_argument('--dry-run', action='store_true', help='print the commands and what is done, run nothing')
    args = parser.parse_args()
    if args.gpus < 0:
        parser.error(f'--gpus has to be 0 or more, got {args.gpus}')
    return args


def main() -> None:
    """Read the pipeline, run what is to be done."""
    args = parse_args()
    work_dir = args.work_dir or str(Path('work_dirs', Path(args.config).stem))
    pipeline = Pipeline(load_stages(args.config), work_dir, args.gpus)
    stages = pipeline.chosen(args.first, args.only)
    if args.dry_run:
        done = pipeline.record()['done']
        for stage in pipeline.stages:
            state = 'run ' if stage in stages else 'done' if stage.name in done else '-   '
            print(f'{state} {stage.name}: {pipeline.shell_line(stage)}')
        return
    pipeline.run(stages, announce=lambda line: print(line, flush=True))
    print(f'all stages are done: {work_dir}' if stages else f'nothing to do, all stages are done: {work_dir}')


if __name__ == '__main__':
    launch.run_cli(main)
