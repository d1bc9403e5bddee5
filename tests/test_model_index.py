"""The index of models: configs exist, numbers come from logs, and what was not measured says so."""

from __future__ import annotations

import ast
import json
import shlex
from pathlib import Path

import modelindex
import pytest
import yaml
from mmengine.config import DictAction
from tiny_configs import CONFIGS, REPOSITORY, load_config

INDEX = REPOSITORY / 'model-index.yml'
METAFILES = sorted(CONFIGS.glob('*/metafile.yml'))
MODELS = [(path, model) for path in METAFILES for model in yaml.safe_load(path.read_text(encoding='utf-8'))['Models']]
each_model = pytest.mark.parametrize(('path', 'model'), MODELS, ids=[model['Name'] for _, model in MODELS])
MEASURED = [model for _, model in MODELS if model['Metadata']['Verified']]


def test_every_method_is_in_the_index() -> None:
    methods = {path for path in CONFIGS.iterdir() if path.is_dir()} - {CONFIGS / '_base_', CONFIGS / 'pipelines'}
    assert {path.parent for path in METAFILES} == methods
    imported = yaml.safe_load(INDEX.read_text(encoding='utf-8'))['Import']
    assert sorted(imported) == [str(path.relative_to(REPOSITORY)) for path in METAFILES]


def test_the_library_of_the_format_reads_it(capsys: pytest.CaptureFixture) -> None:
    index = modelindex.load(str(INDEX))
    assert index.check(silent=False) is None
    assert capsys.readouterr().out == 'All good!\n'
    assert len(index.models) == len(MODELS) == len({model.name for model in index.models})


@each_model
def test_models_are_configs(path: Path, model: dict) -> None:
    config = REPOSITORY / model['Config']
    assert config.is_file()
    assert config.parent == path.parent
    assert config.stem == model['Name']
    collections = yaml.safe_load(path.read_text(encoding='utf-8'))['Collections']
    assert model['In Collection'] in [collection['Name'] for collection in collections]


@each_model
def test_what_was_not_measured_says_so(path: Path, model: dict) -> None:
    facts = model['Metadata']
    assert facts['Training Data']
    if facts['Verified']:
        assert facts['Command']
        assert facts['Runs']
        assert model['Results']
    else:
        assert facts['Note'].endswith('.')
        assert not facts.keys() & {'Command', 'Runs'}


def canonical(config: str) -> Path:
    """The config that a short name stands for; others themselves."""
    path = REPOSITORY / config
    if path.parent != CONFIGS:
        return path
    return (path.parent / ast.literal_eval(path.read_text().partition('=')[2].strip())).resolve()


def scores(log: str) -> dict[str, float]:
    """The last scores in a log."""
    lines = map(json.loads, (REPOSITORY / log).read_text(encoding='utf-8').splitlines())
    return [line for line in lines if 'seg_mIoU' in line][-1]


@pytest.mark.parametrize('model', MEASURED, ids=lambda model: model['Name'])
def test_numbers_come_from_logs(model: dict) -> None:
    runs = model['Metadata']['Runs']
    found = [scores(run['Log']) for run in runs]
    (result,) = model['Results']
    assert 'seg_mIoU' in result['Metrics']
    for name, value in result['Metrics'].items():
        assert sum(entry[name] for entry in found) / len(found) == pytest.approx(value, abs=0.051), name


@pytest.mark.parametrize('model', MEASURED, ids=lambda model: model['Name'])
def test_commands_are_those_of_the_runs(model: dict) -> None:
    words = shlex.split(model['Metadata']['Command'])
    assert words[:2] == ['python', 'tools/train.py']
    assert canonical(words[2]) == REPOSITORY / model['Config']
    cfg = load_config(REPOSITORY / model['Config'])
    options = words[words.index('--cfg-options') + 1 :] if '--cfg-options' in words else []
    runs = model['Metadata']['Runs']
    if 'randomness.seed=SEED' in options:
        options.remove('randomness.seed=SEED')
    else:
        assert [run['Seed'] for run in runs] == [cfg.randomness.seed]
    cfg.merge_from_dict({key: DictAction._parse_iterable(value) for key, value in (o.split('=') for o in options)})
    assert {scores(run['Log'])['step'] for run in runs} == {cfg.train_cfg.max_iters}


def test_logs_belong_to_models() -> None:
    named = {run['Log'] for model in MEASURED for run in model['Metadata']['Runs']}
    assert named == {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / 'docs' / 'logs').iterdir()}
