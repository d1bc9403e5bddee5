"""Numbers on the command lines of the benchmarks."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_cases import FOLDER, load

TAKEN = dict(
    apc_step=('batch', 'crop', 'repeat', 'threads'),
    attention=('batch', 'crop', 'repeat', 'threads'),
    memory=('crop', 'threads'),
    refiners=('repeat',),
    scaling=('batch', 'crop', 'steps', 'threads'),
)


@pytest.fixture(autouse=True)
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def refusal(tool: str, capsys: pytest.CaptureFixture, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        load(tool).parse_args(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(('tool', 'name'), [(tool, name) for tool, names in TAKEN.items() for name in names])
def test_numbers_below_one_are_refused(tool: str, name: str, capsys: pytest.CaptureFixture) -> None:
    assert f'error: --{name} is 0; expected at least 1\n' in refusal(tool, capsys, f'--{name}', '0')
    assert f"error: argument --{name}: invalid int value: '1.5'\n" in refusal(tool, capsys, f'--{name}', '1.5')
    assert getattr(load(tool).parse_args([f'--{name}', '1']), name) == 1


def test_the_least_of_several_numbers_is_named(capsys: pytest.CaptureFixture) -> None:
    assert 'error: --processes has -1; expected at least 1\n' in refusal('scaling', capsys, '--processes', '2', '-1')
    assert load('scaling').parse_args(['--processes', '2', '1']).processes == [2, 1]


def test_defaults() -> None:
    args = [load(tool).parse_args([]) for tool in ('apc_step', 'attention', 'memory')]
    assert [(each.threads, each.device, each.json) for each in args] == [(None, 'cpu', None)] * 3
    assert [each.repeat for each in args[:2]] == [9, 5]
    assert not hasattr(args[2], 'repeat')
    assert load('memory').parse_args(['--json', 'out.json']).json == Path('out.json')
