"""What the work dir of a run holds: config, checkpoint, scalars of the training, scores of evaluations, sweeps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmwsss.apis.checkpoints import find_checkpoint, latest_checkpoint
from mmwsss.apis.config_names import find_config
from mmwsss.apis.errors import UsageError

from .recording import Evaluation

OWN_FOLDER = 'report'  # in a work dir, for what reports keep
_CLOCKS = {'time', 'data_time', 'memory', 'eta', 'epoch', 'iter', 'step'}
SCORE_MARKS = ('mIoU', 'mAP', 'f1_', '_bg_best', 'aAcc', 'mAcc')


@dataclass
class Run:
    """One trained network.

    Args:
        name: what it is called in the report, different for each run.
        folder: its work dir.
        config: file of its config, None where there is none.
        checkpoint: file of its weights, None where there is none.
        curves: values of the training as {name: {step: value}}.
        records: contents of ``metrics.json`` files by the folder they lie in, relative to the work dir.
        sweeps: curves of ``sweep.json`` files in the same way.
        evaluation: what was recorded of all images of the split, None where nothing was.
    """

    name: str
    folder: Path
    config: Path | None = None
    checkpoint: str | None = None
    curves: dict[str, dict[int, float]] = field(default_factory=dict)
    records: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    sweeps: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    evaluation: Evaluation | None = None

    @property
    def validation(self) -> tuple[int, dict[str, float]] | None:
        """Step and scores of the last validation during the training, None without one."""
        steps = [max(curve) for name, curve in self.curves.items() if is_score(name)]
        if not steps:
            return None
        last = max(steps)
        return last, {name: curve[last] for name, curve in self.curves.items() if is_score(name) and last in curve}

    @property
    def obstacle(self) -> str | None:
        """What the work dir lacks for an evaluation of its images, in words; None where it lacks nothing."""
        needed = {'no checkpoint (last_checkpoint)': self.checkpoint, 'no config': self.config}
        lacking = ' and '.join(words for words, found in needed.items() if found is None)
        return f'{lacking}, so no image was evaluated' if lacking else None


def collect_runs(folders: Sequence[str], checkpoints: Sequence[str] = (), configs: Sequence[str] = ()) -> list[Run]:
    """Runs of the work dirs ``folders``; ``checkpoints`` and ``configs`` replace what is found there, one for each.

    Raises:
        UsageError: a folder, checkpoint or config does not exist, a folder comes twice, or the numbers do not fit.
    """
    for option, given in (('--checkpoint', checkpoints), ('--config', configs)):
        if given and len(given) != len(folders):
            raise UsageError(f'{option} needs one file for each WORK_DIR: got {len(given)} for {len(folders)}')
    paths = [Path(folder).resolve() for folder in folders]
    for folder, path in zip(folders, paths):
        if not path.is_dir():
            raise UsageError(f'{folder} is no folder; name a work dir of tools/train.py or tools/test.py')
        if paths.count(path) > 1:
            raise UsageError(f'{folder} is named twice')
    runs = [collect_run(Path(folder), name) for folder, name in zip(folders, _names(paths))]
    for run, checkpoint in zip(runs, checkpoints):
        run.checkpoint = find_checkpoint(checkpoint, '--checkpoint')
    for run, config in zip(runs, configs):
        run.config = Path(find_config(config))
    return runs


def collect_run(folder: Path, name: str) -> Run:
    """What there is in the work dir ``folder``; nothing of it has to be there.

    Raises:
        UsageError: a file in it cannot be read as what its name says.
    """
    records = {place: _read_json(path) for place, path in _found(folder, 'metrics.json')}
    for place, record in records.items():
        if not isinstance(record, Mapping) or not isinstance(record.get('scores'), Mapping):
            raise UsageError(f'{folder / place / "metrics.json"} has no scores; write it again by tools/test.py')
    return Run(
        name=name,
        folder=folder,
        config=training_config(folder),
        checkpoint=latest_checkpoint(str(folder)),
        curves=training_curves(_logs(folder)),
        records=records,
        sweeps={place: _sweep(path) for place, path in _found(folder, 'sweep.json')},
    )


def training_config(folder: Path) -> Path | None:
    """Config of the training in the work dir ``folder``: the one beside its latest log, or else the only one in it.

    An evaluation may leave its config in the same folder, with another model or other data.
    """
    trained = [log.parent / 'config.py' for log in _logs(folder)]
    if found := [path for path in trained if path.is_file()]:
        return found[-1]
    configs = sorted(folder.glob('*.py'))
    return configs[0] if len(configs) == 1 else None


def training_curves(logs: Sequence[Path]) -> dict[str, dict[int, float]]:
    """Values in ``logs``, the ``scalars.json`` of a training and of its resumptions in the order of time.

    A later log replaces what earlier ones have from its first step on.

    Raises:
        UsageError: a line is no JSON.
    """
    curves: dict[str, dict[int, float]] = {}
    for log in logs:
        lines = list(_json_lines(log))
        first = min((line['step'] for line in lines if 'step' in line), default=0)
        curves = {name: {x: y for x, y in curve.items() if x < first} for name, curve in curves.items()}
        for line in lines:
            for name, value in line.items():
                if name not in _CLOCKS and isinstance(value, int | float) and 'step' in line:
                    curves.setdefault(name, {})[line['step']] = value
    return {name: dict(sorted(curve.items())) for name, curve in curves.items() if curve}


def is_score(name: str) -> bool:
    """Whether a scalar of this name is a score of a validation.

    >>> is_score('seg_mIoU'), is_score('loss_mce')
    (True, False)
    """
    return any(mark in name for mark in SCORE_MARKS)


def kind_of_scalar(name: str) -> str:
    """Heading of the report that the curve ``name`` belongs to.

    >>> kind_of_scalar('loss_mce'), kind_of_scalar('base_lr')
    ('Losses', 'Learning rate')
    """
    if is_score(name):
        return 'Scores of validation'
    last = name.rsplit('/', 1)[-1]
    if 'loss' in last:
        return 'Losses'
    return 'Learning rate' if last == 'lr' or last.endswith('_lr') else 'Other values'


def check_same_classes(classes: Mapping[str, Sequence[str]]) -> None:
    """Raise UsageError where the runs, whose names are the keys, have different classes."""
    first = next(iter(classes), None)
    for name in classes:
        if list(classes[name]) != list(classes[first]):
            raise UsageError(f'{name} and {first} have different classes; write a report for each')


def _names(paths: Sequence[Path]) -> list[str]:
    """Names of the folders, with as many of their parents as tell them apart."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ['/'.join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def _logs(folder: Path) -> list[Path]:
    """Logs of trainings, which hold losses or scores of a validation; folders are named after their time."""
    found = sorted(path for path in folder.glob('*/vis_data/scalars.json') if path.parts[-3] != OWN_FOLDER)
    return [path for path in found if any(_of_training(line) for line in _json_lines(path))]


def _of_training(line: Mapping[str, Any]) -> bool:
    # A short training may have validated without logging a loss; outside of a training there is only step 0.
    return 'lr' in line or 'loss' in line or (line.get('step', 0) > 0 and any(map(is_score, line)))


def _found(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Files of this name below ``folder``, with the folder of each relative to it."""
    for path in sorted(folder.rglob(name)):
        place = path.parent.relative_to(folder)
        if OWN_FOLDER not in place.parts[:1]:
            yield place.as_posix(), path


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    lines = path.read_text(encoding='utf-8').splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
            if not isinstance(content, dict):
                raise ValueError('expected an object')
            yield content
        except ValueError as error:
            if number == len(lines):  # a killed training has not finished it
                return
            raise UsageError(f'{path}, line {number}: not JSON ({error}); remove this line') from error


def _sweep(path: Path) -> Mapping[str, Any]:
    content = _read_json(path)
    if not isinstance(content, Mapping) or not isinstance(content.get('curves'), Mapping):
        raise UsageError(f'{path} has no curves; write it again by tools/analysis_tools/threshold_sweep.py')
    return content['curves']


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise UsageError(f'{path} cannot be read as JSON ({error}); remove it or write it again') from error
