"""Stages of a pipeline, each an ordinary config run by one of the tools, with a record of what is done."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from string import Formatter
from typing import Any

from mmengine.config import Config

from mmwsss.engine.preemption import PREEMPTED, Preempted, forwarded_signals, received_signal
from mmwsss.utils.files import locked, write_json

from .checkpoints import LAST
from .config_names import OWN_PREFIX, resource_root, shipped_config
from .launch import UsageError, load_config

TOOLS = resource_root() / 'tools'
RECORD = 'pipeline.json'
KINDS = {'train': 'train.py', 'export': 'generate_pseudo_labels.py', 'test': 'test.py'}


@dataclass(frozen=True)
class Stage:
    """One step of a pipeline.

    Args:
        name: names its folder in the work dir of the pipeline.
        kind: 'train' (a config), 'export' (pseudo masks of a config and a checkpoint) or 'test' (scores).
        config: path of the config that the stage runs.
        checkpoint: of 'export' and 'test', a file, a work dir, or ``WORK_DIR/best``, see
            :func:`~mmwsss.apis.checkpoints.find_checkpoint`.
        options: settings of the config, as ``--cfg-options`` takes them.
        arguments: more arguments of the tool.
        env: environment variables, such as those that a config reads paths from.
        gpus: processes in the place of those of the pipeline, where that has several.

    ``checkpoint``, ``options``, ``arguments`` and ``env`` may hold ``{NAME}``, the folder of an earlier stage, and
    ``{work_dir}``, that of the pipeline.
    """

    name: str
    kind: str
    config: str
    checkpoint: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    gpus: int | None = None


def load_stages(path: str) -> list[Stage]:
    """Stages of the pipeline config at ``path``, whose paths are relative to it; shipped ones by name: ``pmm_voc``.

    A stage names a shipped config by ``mmwsss::NAME``.

    Raises:
        UsageError: there is no such pipeline, it has no ``stages``, a stage is not complete, two have one name, a
            config does not exist, or a placeholder names no earlier stage.
    """
    path = find_pipeline(path)
    entries = load_config(path).get('stages')
    if not entries:
        raise UsageError(f'{path}: set stages = [dict(name=..., kind=..., config=...), ...]')
    stages: list[Stage] = []
    for number, entry in enumerate(entries, start=1):
        stage = _stage(f'{path}: stage {number}', dict(entry), Path(path).parent)
        if stage.name in {'work_dir', *(earlier.name for earlier in stages)}:
            raise UsageError(f'{path}: stage {number} has the name {stage.name!r} of another one; rename it')
        known = {'work_dir', *(earlier.name for earlier in stages)}
        for text in _texts(stage):
            if unknown := _placeholders(text) - known:
                raise UsageError(
                    f'{path}: {stage.name} refers to {{{min(unknown)}}}; earlier stages are {", ".join(sorted(known))}'
                )
        stages.append(stage)
    return stages


def find_pipeline(name: str) -> str:
    """Path of a pipeline: ``name`` itself where that is a file, otherwise the shipped one of this name.

    Raises:
        UsageError: there is neither.
    """
    if os.path.isfile(name):
        return name
    folder = resource_root() / 'configs' / 'pipelines'
    shipped = folder / f'{name.removeprefix("pipelines/").removesuffix(".py")}.py'
    if not shipped.is_file():
        names = sorted(path.stem for path in folder.glob('*.py'))
        raise UsageError(f'pipeline {name} does not exist; shipped ones are {", ".join(names)}')
    return str(shipped)


def _stage(where: str, entry: dict[str, Any], folder: Path) -> Stage:
    allowed = set(Stage.__dataclass_fields__)
    if unknown := set(entry) - allowed:
        raise UsageError(f'{where} has no setting {min(unknown)!r}; settings are {", ".join(sorted(allowed))}')
    if missing := [name for name in ('name', 'kind', 'config') if not entry.get(name)]:
        raise UsageError(f'{where} needs {missing[0]}')
    if entry['kind'] not in KINDS:
        raise UsageError(f'{where}: kind has to be one of {", ".join(KINDS)}, got {entry["kind"]!r}')
    if entry['kind'] != 'train' and not entry.get('checkpoint'):
        raise UsageError(f'{where}: {entry["kind"]} needs a checkpoint, such as "{{NAME}}" of the stage that trains it')
    gpus = entry.get('gpus')
    if gpus is not None and (not isinstance(gpus, int) or gpus < 1):
        raise UsageError(f'{where}: gpus has to be 1 or more, got {gpus!r}')
    is_shipped = entry['config'].startswith(OWN_PREFIX)
    config = Path(shipped_config(entry['config'])) if is_shipped else folder / entry['config']
    if not config.is_file():
        raise UsageError(f'{where}: there is no config {config}')
    return Stage(**{**entry, 'config': os.path.normpath(config)})


def _texts(stage: Stage) -> list[str]:
    values = [stage.checkpoint or '', *stage.arguments, *stage.env.values(), *stage.options.values()]
    return [value for value in values if isinstance(value, str)]


def _placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


class Pipeline:
    """Runs stages in order in a work dir and remembers there which are done.

    A stage that is done is not run again unless it is asked for, and then starts anew beside the old folder, which gets
    another name. One that was interrupted goes on where its tool can: training from its latest checkpoint, an export
    after its last mask.

    Args:
        stages: see :func:`load_stages`.
        work_dir: every stage has a folder of its name in it.
        gpus: processes of each stage that has no ``gpus`` of its own; 0 starts all tools without a launcher.
    """

    def __init__(self, stages: Sequence[Stage], work_dir: str, gpus: int = 0) -> None:
        self.stages = list(stages)
        self.work_dir = Path(work_dir)
        self.gpus = gpus

    def folder(self, stage: Stage) -> Path:
        """Where ``stage`` writes."""
        return self.work_dir / stage.name

    def command(self, stage: Stage) -> list[str]:
        """What runs ``stage``; a training that has a checkpoint goes on from it."""
        folder = str(self.folder(stage))
        arguments = [stage.config]
        if stage.checkpoint:
            arguments.append(self._filled(stage.checkpoint))
        arguments += ['--out' if stage.kind == 'export' else '--work-dir', folder]
        if stage.kind == 'train' and Path(folder, LAST).is_file():
            arguments.append('--resume')
        arguments += [self._filled(argument) for argument in stage.arguments]
        if stage.options:
            arguments.append('--cfg-options')
            arguments += [f'{key}={self._option(value)}' for key, value in stage.options.items()]
        tool = KINDS[stage.kind]
        if self.gpus:
            return ['bash', str(TOOLS / 'dist_run.sh'), str(stage.gpus or self.gpus), tool, *arguments]
        return [sys.executable, str(TOOLS / tool), *arguments]

    def environment(self, stage: Stage) -> dict[str, str]:
        """Variables that ``stage`` adds to the environment."""
        return {name: self._filled(value) for name, value in stage.env.items()}

    def shell_line(self, stage: Stage) -> str:
        """Environment and command of ``stage`` as one would type them."""
        setting = [f'{name}={shlex.quote(value)}' for name, value in self.environment(stage).items()]
        return ' '.join([*setting, shlex.join(self.command(stage))])

    def record(self) -> dict[str, dict[str, Any]]:
        """What is known of the stages: those that were ``begun``, and those ``done``, each by name.

        Raises:
            UsageError: the record cannot be read.
        """
        path = self.work_dir / RECORD
        if not path.is_file():
            return dict(begun={}, done={})
        try:
            content = json.loads(path.read_text())
            return dict(begun=dict(content['begun']), done=dict(content['done']))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f'{path} is no record of a pipeline ({type(error).__name__}: {error}); remove it or choose another '
                'work dir'
            ) from error

    def chosen(self, first: str | None = None, only: str | None = None) -> list[Stage]:
        """Stages to run: from ``first`` on or ``only`` that one, else all from the first that is not done.

        Raises:
            UsageError: there is no such stage, one before it is not done, or a finished one was defined otherwise.
        """
        names = [stage.name for stage in self.stages]
        for name in (first, only):
            if name is not None and name not in names:
                raise UsageError(f'there is no stage {name!r}; stages are {", ".join(names)}')
        done = self.record()['done']
        if first is None and only is None:
            start = next((i for i, stage in enumerate(self.stages) if stage.name not in done), len(self.stages))
            chosen = self.stages[start:]
        else:
            start = names.index(first or only)
            chosen = self.stages[start : start + 1] if only is not None else self.stages[start:]
        for stage in self.stages[:start]:
            if stage.name not in done:
                raise UsageError(f'stage {stage.name} comes before and is not done; start with --from {stage.name}')
            if done[stage.name]['definition'] != definition(stage):
                raise UsageError(
                    f'stage {stage.name} was done with other settings in {self.work_dir}; run it again with --from '
                    f'{stage.name}, or choose another work dir'
                )
        return chosen

    def run(self, stages: Sequence[Stage], announce: Callable[[str], None] = print) -> None:
        """Run ``stages`` one after the other and record each that ends well.

        Raises:
            UsageError: a stage failed, or another process runs this pipeline.
            Preempted: a signal came, and the stage, or what follows it, goes on in the next run.
        """
        self.work_dir.mkdir(parents=True, exist_ok=True)
        try:
            with locked(self.work_dir / f'.{RECORD}.lock'):
                self._forget(stages)
                for stage in stages:
                    self._begin(stage, announce)
                    announce(f'stage {stage.name}: {self.shell_line(stage)}')
                    started = datetime.now().isoformat(timespec='seconds')
                    name = self._execute(stage)
                    self._finish(stage, started)
                    if name is not None and stage is not stages[-1]:
                        raise Preempted(f'{name}: stage {stage.name} is done, the next one begins in the next run')
        except BlockingIOError as error:
            raise UsageError(
                f'{self.work_dir} is in use by another run of this pipeline, {error.strerror}; wait for it'
            ) from error

    def _execute(self, stage: Stage) -> str | None:
        """Run the tool of ``stage``; returns the name of a signal that came while it ran to its end."""
        with forwarded_signals() as programs:
            program = subprocess.Popen(self.command(stage), env={**os.environ, **self.environment(stage)})
            programs.append(program)
            if received_signal():  # before there was a program to hand it to
                program.terminate()
            status = program.wait()
            name = received_signal()
        if status == PREEMPTED or (status and name):
            raise Preempted(f'{name or "signal"}: stage {stage.name} has stopped, it goes on in the next run')
        if status:
            raise UsageError(f'stage {stage.name} ended with status {status}; run the same command again to go on')
        return name

    def _forget(self, stages: Sequence[Stage]) -> None:
        """From the first of ``stages`` on nothing is done; only an interrupted one with the same settings goes on."""
        if not stages:
            return
        record = self.record()
        for stage in self.stages[self.stages.index(stages[0]) :]:
            was_done = record['done'].pop(stage.name, None) is not None
            goes_on = stage is stages[0] and record['begun'].get(stage.name) == definition(stage)
            if was_done or not goes_on:
                record['begun'].pop(stage.name, None)
        self._write(record)

    def _begin(self, stage: Stage, announce: Callable[[str], None]) -> None:
        """Note that ``stage`` begins; what another run of it left is moved aside, so that it does not go on there."""
        record, folder = self.record(), self.folder(stage)
        if stage.name in record['begun']:
            return
        if folder.exists():
            aside = folder.with_name(f'{stage.name}.{datetime.now():%Y%m%d_%H%M%S_%f}')
            folder.rename(aside)
            announce(f'stage {stage.name}: the folder of an earlier run is now {aside}')
        record['begun'][stage.name] = definition(stage)
        self._write(record)

    def _finish(self, stage: Stage, started: str) -> None:
        record, finished = self.record(), datetime.now().isoformat(timespec='seconds')
        entry = dict(definition=definition(stage), started=started, finished=finished, command=self.shell_line(stage))
        record['done'][stage.name] = entry
        self._write(record)

    def _write(self, record: Mapping[str, dict[str, Any]]) -> None:
        write_json(self.work_dir / RECORD, dict(stages=[stage.name for stage in self.stages], **record))

    def _filled(self, text: str) -> str:
        folders = {stage.name: str(self.folder(stage)) for stage in self.stages}
        return text.format(work_dir=self.work_dir, **folders)

    def _option(self, value: Any) -> str:
        if isinstance(value, str):
            return self._filled(value)
        return json.dumps(value) if isinstance(value, (list, tuple)) else str(value)


def definition(stage: Stage) -> str:
    """SHA-256 of the settings of ``stage`` and of its whole config, without what depends on the place."""
    config = Config.fromfile(stage.config)
    content = dict(
        kind=stage.kind,
        config=config.to_dict(),
        checkpoint=stage.checkpoint,
        options=dict(stage.options),
        arguments=list(stage.arguments),
        env=dict(stage.env),
    )
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
