"""The HTML page of a report: one file that needs nothing else."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from importlib.resources import files
from typing import Any

from mmwsss.apis.commands import for_installation

from .collect import Run, kind_of_scalar
from .content import page_data
from .scores import run_label, score_tables, table_html

SCRIPTS = ('base.js', 'charts.js', 'classes.js', 'confusion.js', 'gallery.js')
SECTIONS = ('scores', 'classes', 'training', 'threshold', 'confusion', 'gallery')


@dataclass(frozen=True)
class Missing:
    """Something a section cannot show: of which run, what, and the command that makes it."""

    section: str
    run: int
    what: str
    command: str = ''


def build_page(runs: Sequence[Run], split: str, num_images: int | None = None) -> str:
    """HTML of the report on ``runs``; the same text for the same content.

    Args:
        split: that the evaluations are of, for commands.
        num_images: see :func:`page_data`.
    """
    missing = find_missing(runs, split)
    tables = score_tables(runs)
    filled = {
        'title': escape(f'Report: {", ".join(run.name for run in runs)}'),
        'style': _asset('style.css'),
        'script': '\n'.join(_asset(name) for name in SCRIPTS),
        'data': json_for_html(page_data(runs, num_images)),
        'runs': ''.join(_about(index, run) for index, run in enumerate(runs)),
        'scores': ''.join(table_html(table, position == 0) for position, table in enumerate(tables)),
    }
    for section in SECTIONS:
        filled[f'missing_{section}'] = ''.join(
            _missing_html(runs, entry) for entry in missing if entry.section == section
        )
    page = _asset('page.html')
    # In one pass over the template, so that nothing in what is filled in is taken for a place to fill.
    parts = page.split('{{')
    return parts[0] + ''.join(filled[key] + rest for key, _, rest in (part.partition('}}') for part in parts[1:]))


def find_missing(runs: Sequence[Run], split: str) -> list[Missing]:
    """What the runs lack for one of the sections, with commands as they are in this installation."""
    entries = [entry for index, run in enumerate(runs) for entry in _missing_of(index, run, split)]
    return [replace(entry, command=for_installation(entry.command)) for entry in entries]


def json_for_html(content: Any) -> str:
    """JSON of ``content`` that may stand inside a ``<script>`` element."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(',', ':'))
    return text.replace('<', '\\u003c').replace('>', '\\u003e').replace('&', '\\u0026')


def _missing_of(index: int, run: Run, split: str) -> list[Missing]:
    config, folder = shlex.quote(str(run.config or 'CONFIG')), shlex.quote(str(run.folder))
    note = partial(Missing, run=index)
    train = f'python tools/train.py {config} --work-dir {folder}'
    found = []
    if not run.curves:
        # Where there are weights, the command would train into their folder.
        command = train if run.checkpoint is None else ''
        found.append(note('training', what='no scalars.json with losses or scores of a training', command=command))
    elif not any(kind_of_scalar(name) == 'Losses' for name in run.curves):
        what = 'no losses in the log; they are written every default_hooks.logger.interval iterations'
        found.append(note('training', what=what))
    if run.curves and run.validation is None:
        found.append(note('training', what='no scores of a validation in the log; set train_cfg.val_interval'))
    if not run.records:
        test = f'python tools/test.py {config} {folder} --work-dir {folder}'
        found.append(note('scores', what='no metrics.json, the scores under a named protocol', command=test))
    again = f'python tools/report.py {folder} --split {shlex.quote(split)}'
    if run.evaluation is None:
        why = run.obstacle or 'the images were not evaluated for this report'
        if run.checkpoint is None:
            again = train
        elif run.config is None:
            again = f'{again} --config CONFIG'
        found += [note(section, what=why, command=again) for section in ('confusion', 'gallery')]
        if not run.sweeps:
            sweep = f'python tools/analysis_tools/threshold_sweep.py {config} {folder} --out {folder}/sweep'
            found.append(note('threshold', what=f'no sweep.json, and {why}', command=sweep))
        if not any(record.get('per_class') for record in run.records.values()):
            found.append(note('classes', what=f'no scores of single classes, {why}', command=again))
        return found
    content = run.evaluation.content
    if not content['confusion']:
        reason = f'the split {content["split"]} has no masks to compare with'
        found += [note(section, what=reason) for section in ('classes', 'confusion', 'gallery')]
    shown = {kind for image in content['images'] for kind in image['pictures']}
    if lacking := [words for kind, words in (('maps', 'maps'), ('pseudo', 'pseudo masks')) if kind not in shown]:
        found.append(note('gallery', what=f'no {" and ".join(lacking)}: {content["source"]} makes none'))
    if not content['curves']:
        found.append(note('threshold', what=f'no maps to put thresholds on: {content["source"]} makes none'))
    return found


def _about(index: int, run: Run) -> str:
    facts = [('work dir', run.folder), ('config', run.config), ('checkpoint', run.checkpoint)]
    if run.evaluation is not None:
        content = run.evaluation.content
        facts.append(('evaluated', f'{content["split"]}, {len(content["images"])} images; {content["protocol"]}'))
    items = ''.join(f'<div><dt>{name}</dt><dd>{_fact(value)}</dd></div>' for name, value in facts)
    return f'<article class="about">{run_label(index, run.name)}<dl>{items}</dl></article>'


def _fact(value: Any) -> str:
    return escape(str(value)) if value else '<em>none</em>'


def _missing_html(runs: Sequence[Run], entry: Missing) -> str:
    label = run_label(entry.run, runs[entry.run].name)
    command = f'<code class="command">{escape(entry.command)}</code>' if entry.command else ''
    return f'<p class="missing">{label}<span>{escape(entry.what)}</span>{command}</p>'


def _asset(name: str) -> str:
    return (files(__package__) / 'assets' / name).read_text(encoding='utf-8')
