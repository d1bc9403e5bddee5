"""What a page shows of several runs, as one dictionary that JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .collect import Run, check_same_classes, kind_of_scalar
from .pictures import data_uri

_HEADINGS = ('Losses', 'Scores of validation', 'Learning rate', 'Other values')


def page_data(runs: Sequence[Run], num_images: int | None = None) -> dict[str, Any]:
    """Everything the scripts of a page draw.

    Args:
        runs: with their evaluations, where they have one.
        num_images: how many images of the split to show, evenly spread over it; None shows all.

    Raises:
        UsageError: the evaluations are of different classes.
    """
    classes, palette = _common_classes(runs)
    return {
        'runs': [run.name for run in runs],
        'classes': classes,
        'colors': ['#{:02x}{:02x}{:02x}'.format(*color) for color in palette],
        'perClass': per_class_scores(runs),
        'training': training_charts(runs),
        'sweeps': sweep_charts(runs),
        'confusion': confusions(runs),
        'gallery': gallery(runs, num_images),
    }


def per_class_scores(runs: Sequence[Run]) -> dict[str, list[dict[str, Any]]]:
    """``{score: [{'run': index, 'values': {class: percent}}]}`` of the evaluations, or else of the last record."""
    found: dict[str, list[dict[str, Any]]] = {}
    for index, run in enumerate(runs):
        for name, values in _latest(run).get('per_class', {}).items():
            values = {cls: _finite(value) for cls, value in values.items()}
            found.setdefault(name, []).append({'run': index, 'values': values})
    return found


def training_charts(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One chart for every value that a training logged, with a line for each run that has it."""
    names = dict.fromkeys(name for run in runs for name in run.curves)
    charts = []
    for name in sorted(names, key=lambda name: _HEADINGS.index(kind_of_scalar(name))):
        series = [
            {'run': index, 'x': list(run.curves[name]), 'y': [_rounded(y) for y in run.curves[name].values()]}
            for index, run in enumerate(runs)
            if name in run.curves
        ]
        charts.append({'group': kind_of_scalar(name), 'name': name, 'series': series})
    return charts


def sweep_charts(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One chart for maps and one for pseudo masks: mIoU over background settings, a line for each run that has it.

    Curves of the evaluation go before those of a stored ``sweep.json``, of which the last one counts.
    """
    charts: dict[tuple[str, bool], dict[str, Any]] = {}
    for index, run in enumerate(runs):
        content = {} if run.evaluation is None else run.evaluation.content
        settings = content.get('settings', {}) if content.get('curves') else {}
        curves = content.get('curves') or next(reversed(run.sweeps.values()), {})
        for name, curve in curves.items():
            factor = bool(curve['background_channel'])
            chart = charts.setdefault(
                (name, factor),
                {
                    'name': name,
                    'log': factor,
                    'xLabel': 'factor on the background score' if factor else 'threshold',
                    'series': [],
                },
            )
            chart['log'] = chart['log'] and min(curve['settings']) > 0
            chart['series'].append(
                {
                    'run': index,
                    'x': [_rounded(x) for x in curve['settings']],
                    'y': [_finite(y) for y in curve['mIoU']],
                    'configured': settings.get(name.removesuffix('+tags')),
                }
            )
    return list(charts.values())


def confusions(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Confusion matrices, rows are the truth and add up to 100; a row of a class that never occurs is None."""
    found = []
    for index, run in enumerate(runs):
        counts_of = {} if run.evaluation is None else run.evaluation.content['confusion']
        for kind in ('prediction', 'pseudo'):
            if kind not in counts_of:
                continue
            counts = np.asarray(counts_of[kind], dtype=np.float64)
            totals = counts.sum(axis=1)
            rows = [
                None if total == 0 else [round(value, 2) for value in (100 * row / total).tolist()]
                for row, total in zip(counts, totals)
            ]
            share = [round(value, 3) for value in (100 * totals / max(totals.sum(), 1)).tolist()]
            found.append({'run': index, 'kind': kind, 'rows': rows, 'share': share})
    return found


def gallery(runs: Sequence[Run], num_images: int | None) -> dict[str, Any]:
    """Images of the first evaluation, each with its pictures and IoU in every run that has an image of this name."""
    evaluated = [(index, run.evaluation) for index, run in enumerate(runs) if run.evaluation is not None]
    if not evaluated:
        return {'images': [], 'total': 0}
    first = evaluated[0][1]
    names = [image['name'] for image in first.content['images']]
    places = {index: {e['name']: i for i, e in enumerate(record.content['images'])} for index, record in evaluated}
    images = []
    for number in spread(len(names), num_images):
        entry = first.content['images'][number]
        shown = {
            'name': entry['name'],
            'size': entry['size'],
            'truth': entry['truth'],
            'pictures': _pictures(first, number, ('image', 'truth')),
            'runs': [None] * len(runs),
        }
        for index, record in evaluated:
            place = places[index].get(entry['name'])
            if place is not None:
                own = record.content['images'][place]
                pictures = _pictures(record, place, ('maps', 'pseudo', 'prediction'))
                shown['runs'][index] = {'found': own['found'], 'iou': own['iou'], 'pictures': pictures}
        images.append(shown)
    return {'images': images, 'total': len(names)}


def spread(total: int, wanted: int | None) -> list[int]:
    """Indices of ``wanted`` of ``total`` images, evenly over all of them.

    >>> spread(9, 3), spread(2, None), spread(2, 5)
    ([0, 4, 8], [0, 1], [0, 1])
    """
    if wanted is None or wanted >= total:
        return list(range(total))
    return np.linspace(0, total - 1, wanted).round().astype(int).tolist()


def _pictures(record: Any, index: int, kinds: Sequence[str]) -> dict[str, str]:
    there = record.content['images'][index]['pictures']
    return {kind: data_uri(record.picture(index, kind)) for kind in kinds if kind in there}


def _common_classes(runs: Sequence[Run]) -> tuple[list[str], list[Sequence[int]]]:
    """Classes and colours of the evaluations; those of per-class scores and grey where there is no evaluation."""
    records = [(run.name, run.evaluation.content) for run in runs if run.evaluation is not None]
    if records:
        check_same_classes({name: record['classes'] for name, record in records})
        return records[0][1]['classes'], records[0][1]['palette']
    tables = [values for run in runs for values in _latest(run).get('per_class', {}).values()]
    classes = list(dict.fromkeys(cls for values in tables for cls in values))
    return classes, [(128, 128, 128)] * len(classes)


def _latest(run: Run) -> Mapping[str, Any]:
    """The evaluation, or else the last record of ``tools/test.py``."""
    if run.evaluation is not None:
        return run.evaluation.content
    return next(reversed(run.records.values()), {})


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _rounded(value: float) -> float | None:
    """Six digits are more than a picture can show, and a third of the file."""
    return None if _finite(value) is None else float(f'{value:.6g}')
