"""Train a config.

Example: python tools/train.py configs/vitpcm_shapes.py --work-dir work_dirs/shapes
"""

from __future__ import annotations

import argparse

from mmwsss.apis import launch


def parse_args() -> argparse.Namespace:
    """Arguments as in mmsegmentation's tool of the same name; ``--resume`` also takes a checkpoint."""
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    launch.add_config_arguments(parser)
    launch.add_run_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint or, without a value, from the latest one in the work dir',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision, in bfloat16 on a CPU')
    return parser.parse_args()


def main() -> None:
    """Read the arguments, check what can be checked at once, train."""
    args = parse_args()
    cfg = launch.load_run_config(args)
    if args.amp:
        launch.enable_amp(cfg)
    launch.set_resume(cfg, args.resume)
    launch.check_training(cfg)
    launch.train(cfg)


if __name__ == '__main__':
    launch.run_cli(main)
