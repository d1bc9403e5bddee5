import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'score_table.py'


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    spec = importlib.util.spec_from_file_location('score_table', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_run(folder, **scores):
    folder.mkdir(parents=True)
    path = folder / 'metrics.json'
    path.write_text(json.dumps({'scores': scores, 'protocol': 'single scale'}))
    return path


def test_rows_columns_and_pictures(tool, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(Path('runs/a'), **{'seg_mIoU': 51.234, 'maps_bg_best+tags': 0.3, 'mAP': None})
    write_run(Path('runs/b'), **{'seg_mIoU': 60.0, 'pseudo_mIoU_best+tags': 70.0, 'maps_mIoU_best+tags': 1.0})
    Path('runs/b/panels').mkdir()
    tool.main(['runs'])
    out = capsys.readouterr().out
    lines = out.splitlines()
    rows = {line.split('│')[1].strip(): line for line in lines if line.startswith('│')}
    assert list(rows) == ['seg_mIoU', 'maps_bg_best+tags', 'mAP', 'pseudo_mIoU_best+tags', 'maps_mIoU_best+tags']
    assert [cell.strip() for cell in rows['seg_mIoU'].split('│')[2:4]] == ['51.23', '60.00']
    assert [cell.strip() for cell in rows['maps_bg_best+tags'].split('│')[2:4]] == ['0.3', '-']
    assert max(map(len, lines)) <= 80
    assert 'runs/b: single scale' in out
    assert '  pictures: runs/b/panels' in out
    assert 'runs/a/panels' not in out


def test_single_file_is_listed_once(tool, tmp_path, capsys):
    path = write_run(tmp_path / 'run', mAP=12.0)
    assert tool.find_records([path, path.parent]) == [path]
    tool.main([str(path)])
    assert '12.00' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['missing.json', 'empty', 'broken.json', 'other.json'])
def test_errors_are_one_line(tool, run_main, tmp_path, capsys, name):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'broken.json').write_text('{')
    (tmp_path / 'other.json').write_text('{"a": 1}')
    assert run_main(tool, tmp_path / name) == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    assert len(captured.err.splitlines()) == 1
    assert name in captured.err
