"""Evaluate a checkpoint; the scores and their protocol go to `metrics.json` beside the log.

Example: python tools/test.py configs/vitpcm_shapes.py work_dirs/shapes/iter_1000.pth
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from mmwsss.apis import launch
from mmwsss.evaluation.record import protocol_from_scores, write_metrics_json


def parse_args() -> argparse.Namespace:
    """Arguments as in mmsegmentation's tool of the same name; the checkpoint may also be a work dir."""
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    launch.add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file, or a work dir whose latest checkpoint is taken')
    launch.add_run_arguments(parser)
    parser.add_argument('--out', metavar='FOLDER', help='save the predicted masks as PNG in this folder')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', metavar='FOLDER', help='save pictures of the predictions in this folder')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds each picture is shown (default: 2)')
    parser.add_argument('--tta', action='store_true', help='test time augmentation')
    return parser.parse_args()


def draw_predictions(cfg: Config, show: bool, show_dir: str | None, wait_time: float) -> None:
    """Turn on the visualization hook of ``cfg``."""
    if 'visualization' not in cfg.get('default_hooks', {}):
        raise launch.UsageError('--show and --show-dir need default_hooks.visualization in the config')
    cfg.default_hooks.visualization.update(draw=True, show=show, wait_time=wait_time)
    if show_dir:
        cfg.visualizer.save_dir = show_dir


def use_tta(cfg: Config) -> None:
    """Wrap the model of ``cfg`` in its ``tta_model`` and read images through its ``tta_pipeline``."""
    for key in ('tta_model', 'tta_pipeline'):
        if key not in cfg:
            raise launch.UsageError(f'--tta needs {key} in the config')
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.tta_model.module = cfg.model
    cfg.model = cfg.tta_model


def save_masks(cfg: Config, folder: str) -> None:
    """Add an evaluator that only writes the predicted masks."""
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    cfg.test_evaluator = [*evaluators, {'type': 'mmseg.IoUMetric', 'format_only': True, 'output_dir': folder}]


def per_class_scores(runner: Runner) -> dict[str, dict[str, float]]:
    """Scores of each class from every metric that has them."""
    metrics = runner.test_loop.evaluator.metrics
    return {name: scores for metric in metrics for name, scores in getattr(metric, 'per_class', {}).items()}


def main() -> None:
    """Read the arguments, check what can be checked at once, evaluate."""
    args = parse_args()
    checkpoint = launch.find_checkpoint(args.checkpoint)
    cfg = launch.load_run_config(args)
    cfg.load_from, cfg.resume = checkpoint, False
    if args.show or args.show_dir:
        draw_predictions(cfg, args.show, args.show_dir, args.wait_time)
    if args.tta:
        use_tta(cfg)
    if args.out:
        save_masks(cfg, args.out)
    runner = launch.build_runner(cfg)
    scores = runner.test()
    if is_main_process():
        protocol = protocol_from_scores(scores, 'test time augmentation') if args.tta else None
        path = Path(runner.log_dir, 'metrics.json')
        write_metrics_json(path, scores, runner.cfg, checkpoint, runner.seed, per_class_scores(runner), protocol)
        print(f'scores: {path}')


if __name__ == '__main__':
    launch.run_cli(main)
