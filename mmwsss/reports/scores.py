"""Tables of scores, each score with what it means and whether it used image labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from mmwsss.evaluation.protocols import Protocol, protocol_of_score

from .collect import Run

_SUBJECTS = {'seg': 'prediction', 'maps': 'localization maps', 'pseudo': 'pseudo masks'}
_OTHERS = {
    'mAP': 'mean average precision of the image labels',
    'f1_macro': 'F1 of the image labels, mean over classes',
    'f1_micro': 'F1 of the image labels, all classes together',
    'aAcc': 'share of the pixels that are right',
    'mAcc': 'share of the pixels that are right, mean over classes',
    'mIoU': 'prediction',
}
_REFINERS = {'crf': 'dense CRF', 'par': 'PAR', 'rw': 'random walk'}


@dataclass(frozen=True)
class Column:
    """Scores of one evaluation: ``title`` and ``protocol`` say which one, ``run`` is the index of its run."""

    run: int
    title: str
    protocol: str
    scores: Mapping[str, float | None]


@dataclass(frozen=True)
class Table:
    """Evaluations of one origin, to compare with each other."""

    heading: str
    columns: Sequence[Column]


def score_tables(runs: Sequence[Run]) -> list[Table]:
    """Tables of what was evaluated for the report, of what ``tools/test.py`` recorded, of the end of the training."""
    own, recorded, validated = [], [], []
    for index, run in enumerate(runs):
        if run.evaluation is not None:
            content = run.evaluation.content
            title = f'{run.name}, {content["source"]}'
            own.append(Column(index, title, content['protocol'], content['scores']))
        for place, record in run.records.items():
            words = record.get('protocol') or 'protocol not recorded'
            recorded.append(Column(index, f'{run.name}, {place}', words, record['scores']))
        if run.validation is not None:
            step, scores = run.validation
            validated.append(Column(index, f'{run.name}, iteration {step}', 'as configured in the training', scores))
    splits = dict.fromkeys(run.evaluation.content['split'] for run in runs if run.evaluation is not None)
    tables = [
        Table(f'Evaluated for this report on {", ".join(splits)}', own),
        Table('Recorded by tools/test.py', recorded),
        Table('Last validation of the training', validated),
    ]
    return [table for table in tables if any(column.scores for column in table.columns)]


def describe_score(name: str) -> tuple[str, bool]:
    """What the score ``name`` measures, in words, and whether the true image labels were used for it.

    >>> describe_score('maps_mIoU_best+tags')
    ('localization maps at the best background setting; an upper bound, found with the truth', True)
    >>> describe_score('ms+flip+tags_mIoU')
    ('prediction, several scales, mirror images', True)
    """
    plain = name.rsplit('/', 1)[-1]
    if (protocol := protocol_of_score(plain)) is not None:
        return _in_words(protocol), protocol.tags
    tags = plain.endswith('+tags')
    plain = plain.removesuffix('+tags')
    subject, _, kind = plain.partition('_')
    if subject in _SUBJECTS:
        words = {
            'mIoU': _SUBJECTS[subject],
            'mIoU_best': f'{_SUBJECTS[subject]} at the best background setting; an upper bound, found with the truth',
            'bg_best': 'that background setting, no percentage',
        }.get(kind)
        if words is not None:
            return words, tags
    return next((words for end, words in _OTHERS.items() if plain.endswith(end)), ''), tags


def table_html(table: Table, open_: bool) -> str:
    """The table as a ``<details>`` element; the best of several numbers is marked."""
    names = list(dict.fromkeys(name for column in table.columns for name in column.scores))
    heads = ''.join(f'<th scope="col">{run_label(column.run, column.title)}</th>' for column in table.columns)
    rows = ''.join(_row(name, table.columns) for name in names)
    protocols = ''.join(
        f'<li>{run_label(column.run, column.title)}<span class="protocol">{escape(column.protocol)}</span></li>'
        for column in table.columns
    )
    return (
        f'<details class="card scores"{" open" if open_ else ""}><summary>{escape(table.heading)}</summary>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.heading)}"><table><thead><tr>'
        f'<th scope="col">score</th><th scope="col">what it is</th>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        f'</div><ul class="protocols">{protocols}</ul></details>'
    )


def run_label(run: int, text: str) -> str:
    """``text`` after a dot in the colour of the run, as HTML."""
    return f'<span class="run" data-run="{run % 8}">{escape(text)}</span>'


def _row(name: str, columns: Sequence[Column]) -> str:
    words, tags = describe_score(name)
    values = [_number(column.scores.get(name)) for column in columns]
    known = [value for value in values if value is not None]
    best = max(known) if len(known) > 1 and '_bg_best' not in name and max(known) > min(known) else None
    cells = ''.join(_cell(name, value, best) for value in values)
    used = '<span class="tag" title="the true image labels were used">+tags</span>' if tags else ''
    return (
        f'<tr><th scope="row"><code>{escape(name)}</code></th><td class="words">{escape(words)} {used}</td>{cells}</tr>'
    )


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _cell(name: str, value: float | None, best: float | None) -> str:
    if value is None:
        return '<td class="number none">–</td>'
    text = f'{value:g}' if '_bg_best' in name else f'{value:.2f}'
    return f'<td class="number">{f"<b>{text}</b>" if value == best else text}</td>'


def _in_words(protocol: Protocol) -> str:
    parts = ['prediction', 'several scales' if protocol.multi_scale else 'single scale']
    if protocol.flip:
        parts.append('mirror images')
    if protocol.refiner:
        parts.append(_REFINERS[protocol.refiner])
    return ', '.join(parts)
