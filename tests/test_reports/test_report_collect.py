"""What a report finds in work dirs."""

from __future__ import annotations

import json

import pytest

from mmwsss.apis.errors import UsageError
from mmwsss.reports.collect import collect_runs, training_config, training_curves


def log(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(line if isinstance(line, str) else json.dumps(line) for line in lines) + '\n')
    return path


def test_a_resumed_training_is_one_curve(tmp_path):
    first = log(tmp_path / '1.json', *({'loss': step, 'step': step} for step in (1, 2, 3)), {'seg_mIoU': 5, 'step': 3})
    second = log(tmp_path / '2.json', {'loss': 20, 'step': 2, 'time': 1.0}, {'loss': 40, 'step': 4})
    assert training_curves([first, second]) == {'loss': {1: 1, 2: 20, 4: 40}}


def test_a_line_that_was_cut(tmp_path):
    cut = log(tmp_path / 'cut.json', {'loss': 1, 'step': 1}, '{"loss": 2, "st')
    assert training_curves([cut]) == {'loss': {1: 1}}
    broken = log(tmp_path / 'broken.json', '{"loss":', {'loss': 1, 'step': 1})
    with pytest.raises(UsageError, match=r'broken\.json, line 1: not JSON'):
        training_curves([broken])


def test_config_of_the_training_not_of_a_test(make_work_dir):
    folder = make_work_dir('run')
    (folder / 'a.py').write_text('')
    tested = folder / '20260103_000000' / 'vis_data'
    tested.mkdir(parents=True)
    (tested / 'config.py').write_text('')
    log(tested / 'scalars.json', {'seg_mIoU': 1, 'step': 0})
    assert training_config(folder) == folder / '20260101_000000' / 'vis_data' / 'config.py'


def test_log_of_a_training_that_only_validated(tmp_path):
    log(tmp_path / '20260101_000000' / 'vis_data' / 'scalars.json', {'seg_mIoU': 15.5, 'time': 0.2, 'step': 5})
    (tmp_path / '20260101_000000' / 'vis_data' / 'config.py').write_text('')
    (run,) = collect_runs([str(tmp_path)])
    assert run.validation == (5, {'seg_mIoU': 15.5})
    assert run.config == tmp_path / '20260101_000000' / 'vis_data' / 'config.py'


def test_config_without_a_log(tmp_path):
    assert training_config(tmp_path) is None
    (tmp_path / 'a.py').write_text('')
    assert training_config(tmp_path) == tmp_path / 'a.py'
    (tmp_path / 'b.py').write_text('')
    assert training_config(tmp_path) is None


def test_names_tell_runs_apart(make_work_dir):
    folders = [make_work_dir('x/last'), make_work_dir('y/last')]
    assert [run.name for run in collect_runs(list(map(str, folders)))] == ['x/last', 'y/last']


def test_what_a_run_holds(make_work_dir):
    (run,) = collect_runs([str(make_work_dir('run'))])
    assert run.validation == (30, {'seg_mIoU': 41.5, 'pseudo_mIoU+tags': 51.0})
    assert list(run.records) == ['20260102_000000']
    assert list(run.sweeps) == ['sweep']
    assert run.checkpoint is None


def test_refused_folders(make_work_dir, tmp_path):
    folder = str(make_work_dir('run'))
    with pytest.raises(UsageError, match='nowhere is no folder'):
        collect_runs([str(tmp_path / 'nowhere')])
    with pytest.raises(UsageError, match='named twice'):
        collect_runs([folder, f'{folder}/.'])
    with pytest.raises(UsageError, match='--checkpoint needs one file for each WORK_DIR: got 2 for 1'):
        collect_runs([folder], checkpoints=['a', 'b'])
    (tmp_path / 'run' / '20260102_000000' / 'metrics.json').write_text('{}')
    with pytest.raises(UsageError, match=r'metrics\.json has no scores'):
        collect_runs([folder])


def test_files_of_other_programs_are_named(make_work_dir):
    folder = make_work_dir('run')
    (folder / 'sweep' / 'sweep.json').write_text('[1, 2]')
    with pytest.raises(UsageError, match=r'sweep\.json has no curves'):
        collect_runs([str(folder)])
    (folder / '20260101_000000' / 'vis_data' / 'scalars.json').write_text('3\n{"step": 1, "loss": 2.0}\n')
    with pytest.raises(UsageError, match=r'scalars\.json, line 1: not JSON \(expected an object\)'):
        collect_runs([str(folder)])
