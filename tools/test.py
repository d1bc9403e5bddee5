"""Evaluate a checkpoint; the scores and their protocol go to `metrics.json` beside the log.

Example: python tools/test.py configs/vitpcm_shapes.py work_dirs/shapes/iter_1000.pth
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner
from mmseg.evaluation import IoUMetric
from rich.console import Console
from rich.table import Table

from mmwsss.apis import launch
from mmwsss.apis.testing import innermost, run_test
from mmwsss.evaluation import WSSSMetric
from mmwsss.evaluation.protocols import GRAMMAR, parse_protocols, protocol_of_score
from mmwsss.evaluation.record import protocol_from_scores, views_in_words, write_metrics_json
from mmwsss.evaluation.voc_archive import ArchiveError, check_voc_classes
from mmwsss.models.segmentors.protocol_segmentor import DEFAULT_REFINERS, ProtocolSegmentor
from mmwsss.pseudo_labels.export_data import lacks_masks, without_annotations
from mmwsss.pseudo_labels.labeler import PseudoLabeler
from mmwsss.registry import DATASETS, METRICS


def parse_args() -> argparse.Namespace:
    """Arguments as in mmsegmentation's tool of the same name; the checkpoint may also be a work dir."""
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    launch.add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file, or a work dir whose latest checkpoint is taken')
    launch.add_run_arguments(parser)
    parser.add_argument('--out', metavar='FOLDER', help='save the predicted masks as PNG in this folder')
    parser.add_argument(
        '--voc-archive',
        metavar='FILE',
        help='pack the predictions, made without image labels, into a .tar.gz file for the PASCAL VOC test server',
    )
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', metavar='FOLDER', help='save pictures of the predictions in this folder')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds each picture is shown (default: 2)')
    parser.add_argument('--tta', action='store_true', help='test time augmentation')
    parser.add_argument(
        '--protocol',
        nargs='+',
        metavar='P',
        help=f'score the model under these protocols, all from one pass over the network: {GRAMMAR}; ss and ms are the '
        'image at one and at several scales, flip adds its mirror image, tags uses the ground-truth image labels; '
        '--out and --voc-archive save the first one without tags. '
        'protocol_model in the config sets the refiners, e.g. dict(refiners=dict(crf=dict(type="DenseCRF")))',
    )
    parser.add_argument('--scales', nargs='+', type=float, metavar='S', help='scales of ms in --protocol')
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


def use_protocols(cfg: Config, protocols: list[str], scales: list[float] | None, saves_masks: bool) -> None:
    """Wrap the model of ``cfg`` so that it predicts under every one of ``protocols``.

    Raises:
        UsageError: a protocol cannot be read or lacks its refiner, a scale is not positive, no metric of the config
            knows protocols, or masks are to be saved and every protocol uses image labels.
    """
    try:
        wanted = parse_protocols(protocols)
    except ValueError as error:
        raise launch.UsageError(f'--protocol: {error}') from error
    refiners = {**DEFAULT_REFINERS, **cfg.get('protocol_model', {}).get('refiners', {})}
    if missing := [protocol for protocol in wanted if protocol.refiner not in (None, *refiners)]:
        raise launch.UsageError(
            f'--protocol {missing[0].name}: set protocol_model.refiners.{missing[0].refiner} in the config; configured '
            f'are {", ".join(refiners)}'
        )
    if saves_masks and all(protocol.tags for protocol in wanted):
        raise launch.UsageError('--out and --voc-archive save masks made without image labels; add one without +tags')
    if scales and min(scales) <= 0:
        raise launch.UsageError(f'--scales: have to be positive, got {min(scales):g}')
    if not any('WSSSMetric' in str(evaluator['type']) for evaluator in evaluators_of(cfg)):
        raise launch.UsageError('--protocol needs WSSSMetric in test_evaluator of the config')
    names = [protocol.name for protocol in wanted]
    wrapper = {'type': 'ProtocolSegmentor', **cfg.get('protocol_model', {}), 'protocols': names, 'module': cfg.model}
    cfg.model = {**wrapper, 'scales': scales} if scales else wrapper


def check_image_labels(runner: Runner, protocols: list[str]) -> None:
    """Raise UsageError where ``protocols`` use image labels that the test data does not have."""
    tagged = [protocol.name for protocol in parse_protocols(protocols) if protocol.tags]
    if tagged and 'image_labels' not in runner.test_loop.dataloader.dataset[0]['data_samples']:
        raise launch.UsageError(
            f'--protocol {tagged[0]} needs image labels, the test dataset has none; use a weak dataset with '
            'label_source and PackWeakInputs, or leave out +tags'
        )


def protocol_in_words(args: argparse.Namespace, runner: Runner, scores: dict[str, float]) -> str:
    """What the scores were made with: views, protocols, image labels, and the network where there are several."""
    model = innermost(runner.model)
    settings, scales = getattr(model, 'test_cfg', None) or {}, None
    if args.tta:
        scales = 'test time augmentation'
        if settings.get('views'):
            scales += f' of {views_in_words(settings["views"])}'
    elif args.protocol and any(protocol.multi_scale for protocol in parse_protocols(args.protocol)):
        wrapper = next(part for part in runner.model.modules() if isinstance(part, ProtocolSegmentor))
        scales = f'ms at scales {", ".join(f"{scale:g}" for scale in wrapper.scales)}'
    return protocol_from_scores(scores, scales, settings)


def print_protocols(scores: dict[str, float]) -> None:
    """Print a table of the scores of all protocols."""
    table = Table('protocol', 'image labels')
    table.add_column('mIoU', justify='right')
    for name, score in scores.items():
        if (protocol := protocol_of_score(name)) is not None:
            table.add_row(protocol.name, 'used' if protocol.tags else '-', f'{score:.2f}')
    Console(highlight=False, markup=False).print(table)


def evaluators_of(cfg: Config) -> list[dict]:
    """Configs of the evaluators of the test."""
    return cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]


def use_without_masks(cfg: Config, saves_masks: bool) -> None:
    """Where the test data have no masks, load none and keep only the evaluators that do without.

    Raises:
        UsageError: none is left and no masks are to be saved.
    """
    dataset = cfg.test_dataloader.dataset
    if not lacks_masks(dataset):
        return
    dataset.pipeline = without_annotations(dataset.pipeline)
    has_labels = dataset.get('label_source') is not None
    kept = [evaluator for evaluator in evaluators_of(cfg) if not needs_truth(evaluator, has_labels)]
    if not (kept or saves_masks):
        raise launch.UsageError('the test data have no masks to score against; save predictions by --out FOLDER')
    cfg.test_evaluator = kept


def needs_truth(evaluator: dict, has_labels: bool) -> bool:
    """Whether an evaluator of this config cannot work without masks, on data with or without image labels."""
    kind = evaluator['type']
    kind = METRICS.get(kind) if isinstance(kind, str) else kind
    if kind is not None and issubclass(kind, WSSSMetric):
        return not has_labels
    return kind is not None and issubclass(kind, IoUMetric) and not evaluator.get('format_only', False)


def save_masks(cfg: Config, folder: str) -> None:
    """Add an evaluator that only writes the predicted masks."""
    saver = {'type': 'mmseg.IoUMetric', 'format_only': True, 'output_dir': folder}
    cfg.test_evaluator = [*evaluators_of(cfg), saver]


def save_voc_archive(cfg: Config, path: str) -> None:
    """Add an evaluator that packs the predicted masks.

    Raises:
        UsageError: the test data are not PASCAL VOC, or ``path`` is not named like a tar.gz file.
    """
    if not path.endswith(('.tar.gz', '.tgz')):
        raise launch.UsageError(f'--voc-archive {path}: the server takes .tar.gz (or .tgz) files, name it so')
    dataset = cfg.test_dataloader.dataset
    try:
        check_voc_classes({**getattr(DATASETS.get(dataset.type), 'METAINFO', {}), **(dataset.get('metainfo') or {})})
    except ArchiveError as error:
        raise launch.UsageError(f'--voc-archive: {error}') from error
    cfg.test_evaluator = [*evaluators_of(cfg), {'type': 'VOCArchive', 'out': path}]


def build_runner(cfg: Config) -> Runner:
    """Runner of ``cfg``.

    Raises:
        UsageError: the steps of the model's pseudo labeler cannot be built.
    """
    model = cfg.model.get('module', cfg.model)
    if model.get('pseudo_labeler') is not None:
        try:
            PseudoLabeler(**model.pseudo_labeler)
        except (KeyError, TypeError, ValueError) as error:
            raise launch.UsageError(f'the steps of the pseudo labeler cannot be built: {error}') from error
    return launch.build_runner(cfg)


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
    if args.protocol and args.tta:
        raise launch.UsageError('--protocol makes its own views; leave out --tta')
    if args.scales and not args.protocol:
        raise launch.UsageError('--scales needs --protocol')
    if args.tta:
        use_tta(cfg)
    if args.protocol:
        use_protocols(cfg, args.protocol, args.scales, bool(args.out or args.voc_archive))
    use_without_masks(cfg, bool(args.out or args.voc_archive))
    if args.out:
        save_masks(cfg, args.out)
    if args.voc_archive:
        save_voc_archive(cfg, args.voc_archive)
    runner = build_runner(cfg)
    if args.protocol:
        check_image_labels(runner, args.protocol)
    scores = run_test(runner, checkpoint)
    if is_main_process():
        protocol = protocol_in_words(args, runner, scores)
        path = Path(runner.log_dir, 'metrics.json')
        write_metrics_json(path, scores, runner.cfg, checkpoint, runner.seed, per_class_scores(runner), protocol)
        if args.protocol:
            print_protocols(scores)
        print(f'scores: {path}')
        if args.voc_archive:
            print(f'archive: {args.voc_archive}')


if __name__ == '__main__':
    launch.run_cli(main)
