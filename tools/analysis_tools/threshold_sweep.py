"""mIoU of localization maps and pseudo masks over background settings, as sweep.json and sweep.png.

A setting is the threshold on maps without, and the factor on the background score of maps with a background channel.
Names end in +tags where ground-truth image labels were used; model.test_cfg.use_image_labels=False turns that off.

Example: python tools/analysis_tools/threshold_sweep.py configs/cam_shapes.py work_dirs/cam_shapes \
    --grid 0.05:0.6:0.05 --out work_dirs/cam_shapes/sweep
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmwsss.apis import launch
from mmwsss.apis.testing import run_test
from mmwsss.evaluation import WSSSMetric, protocol_from_scores
from mmwsss.evaluation.record import circumstances, config_sha256
from mmwsss.pseudo_labels.export_data import ExportError, lacks_masks, scored_dataset_cfg
from mmwsss.utils.files import replacing, write_json


def parse_args() -> argparse.Namespace:
    """Arguments; the grid is checked in :func:`parse_grid`."""
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    launch.add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file, or a work dir whose latest checkpoint is taken')
    launch.add_run_arguments(parser)
    parser.add_argument(
        '--grid',
        metavar='A:B:STEP',
        help='settings from A to B, both included (default: those of WSSSMetric); the configured one is added',
    )
    parser.add_argument('--split', default='val', help='train, val (default), test, or a file with one image id a line')
    parser.add_argument('--out', required=True, metavar='FOLDER', help='folder of sweep.json and sweep.png')
    return parser.parse_args()


def parse_grid(text: str) -> list[float]:
    """Settings of the text 'a:b:step', b included.

    Raises:
        UsageError: not three numbers, or they make no ascending grid of settings from 0 on.

    >>> parse_grid('0.1:0.3:0.1')
    [0.1, 0.2, 0.3]
    """
    try:
        start, stop, step = (float(part) for part in text.split(':'))
    except ValueError as error:
        raise launch.UsageError(f'--grid {text}: expected three numbers A:B:STEP such as 0.05:0.6:0.05') from error
    if not (np.isfinite([start, stop, step]).all() and 0 <= start <= stop and step > 0):
        raise launch.UsageError(f'--grid {text}: expected 0 <= A <= B and STEP > 0')
    count = int((stop - start) / step + 1e-6) + 1
    return [round(start + i * step, 10) for i in range(count)]


def use_split(cfg: Config, split: str) -> None:
    """Let the test loop of ``cfg`` read the images of ``split`` through the test pipeline.

    Raises:
        UsageError: the config lacks what the split needs, or there are no masks to compare with.
    """
    if cfg.get('test_dataloader') is None:
        raise launch.UsageError('the config has no test_dataloader, which says how images are read')
    try:
        dataset = scored_dataset_cfg(cfg, split)
    except ExportError as error:
        raise launch.UsageError(str(error)) from error
    if lacks_masks(dataset):
        raise launch.UsageError(f'the data of the split {split} have no masks to compare with; choose another --split')
    cfg.test_dataloader.dataset = dataset


def use_metric(cfg: Config, grid: list[float] | None) -> None:
    """Evaluate ``cfg`` by its ``WSSSMetric``, or a new one, alone and on ``grid``."""
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    found = next((dict(item) for item in evaluators if 'WSSSMetric' in str(item['type'])), {'type': 'WSSSMetric'})
    cfg.test_evaluator = {**found, 'bg_grid': grid} if grid else found


def find_metric(runner: Runner) -> WSSSMetric:
    """The metric that holds the curves."""
    return next(metric for metric in runner.test_loop.evaluator.metrics if isinstance(metric, WSSSMetric))


def summarize(curves: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """``curves`` of WSSSMetric without per-class curves, with ``best``: setting, mIoU and IoU of every class there."""
    summary = {}
    for name, curve in curves.items():
        best = int(np.nanargmax(curve['mIoU']))
        summary[name] = {
            'background_channel': curve['background_channel'],
            'settings': curve['settings'],
            'mIoU': curve['mIoU'],
            'best': {
                'setting': curve['settings'][best],
                'mIoU': curve['mIoU'][best],
                'IoU': {cls: values[best] for cls, values in curve['IoU'].items()},
            },
        }
    return summary


def draw(summary: dict[str, dict[str, Any]], title: str, path: Path) -> None:
    """Write the curves as a picture; the best setting of each is marked.

    Thresholds, and factors on a background score on a logarithmic axis, have a panel each where there are both.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kinds = sorted({curve['background_channel'] for curve in summary.values()})
    figure = Figure(figsize=(6.4 * len(kinds), 4.2), layout='constrained')
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for position, has_background in enumerate(kinds, start=1):
        axes = figure.add_subplot(1, len(kinds), position)
        curves = {name: curve for name, curve in summary.items() if curve['background_channel'] == has_background}
        for name, curve in curves.items():
            best = curve['best']
            (line,) = axes.plot(curve['settings'], curve['mIoU'], marker='.', label=name)
            axes.plot(best['setting'], best['mIoU'], marker='o', fillstyle='none', color=line.get_color())
            label = f'{best["mIoU"]:.2f} at {best["setting"]:g}'
            axes.annotate(label, (best['setting'], best['mIoU']), (0, 8), textcoords='offset points', ha='center')
        if has_background and all(setting > 0 for curve in curves.values() for setting in curve['settings']):
            axes.set_xscale('log')
        axes.set(xlabel='factor on the background score' if has_background else 'threshold', ylabel='mIoU (%)')
        axes.margins(y=0.15)
        axes.grid(alpha=0.3)
        axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, format='png', dpi=120)


def main() -> None:
    """Evaluate once, write the curves."""
    args = parse_args()
    checkpoint = launch.find_checkpoint(args.checkpoint)
    grid = parse_grid(args.grid) if args.grid else None
    out = Path(args.out)
    args.work_dir = args.work_dir or str(out)
    cfg = launch.load_run_config(args)
    cfg.load_from, cfg.resume = checkpoint, False
    use_split(cfg, args.split)
    use_metric(cfg, grid)
    runner = launch.build_runner(cfg)
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not hasattr(model, 'viewed_outputs'):
        raise launch.UsageError(
            f'{args.config}: {type(model).__name__} makes no localization maps to sweep; use a weak segmentor'
        )
    scores = run_test(runner, checkpoint)
    if not is_main_process():
        return
    summary = summarize(find_metric(runner).curves)
    record = {
        'curves': summary,
        'split': args.split,
        'protocol': protocol_from_scores(scores, settings=model.test_cfg),
        'config': {'filename': cfg.filename, 'sha256': config_sha256(cfg)},
        'checkpoint': checkpoint,
        **circumstances(),
    }
    write_json(out / 'sweep.json', record)
    draw(summary, f'{Path(args.config).stem}, {args.split}', out / 'sweep.png')
    for name, curve in summary.items():
        print(f'{name}: best mIoU {curve["best"]["mIoU"]:.2f} at background setting {curve["best"]["setting"]:g}')
    print(f'curves: {out / "sweep.json"}, {out / "sweep.png"}')


if __name__ == '__main__':
    launch.run_cli(main)
