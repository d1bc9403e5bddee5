"""Progress on a terminal and in a file."""

from __future__ import annotations

import pytest

from mmwsss.utils import progress


def test_a_file_gets_lines(monkeypatch, capsys) -> None:
    monkeypatch.setattr(progress, 'PLAIN_INTERVAL', 0.0)
    with progress.counted('run: x', 25) as count:
        for _ in range(25):
            count()
    assert capsys.readouterr().err.splitlines()[-1] == 'run: x: 25/25, 0:00:00 left'


@pytest.mark.parametrize('title', ['run: x', '[run] x'])
def test_an_error_after_a_bar_has_a_line_of_its_own(title, monkeypatch, capsys) -> None:
    monkeypatch.setattr('sys.stderr.isatty', lambda: True)

    def fail() -> None:
        with progress.counted(title, 3) as count:
            count()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    shown = capsys.readouterr().err
    assert title in shown
    assert '1/3' in shown
    assert shown.removesuffix('\x1b[?25h').endswith('\n')  # what shows the cursor again


def test_nothing_on_request(capsys) -> None:
    with progress.counted('run: x', 1, shown=False) as count:
        count()
    assert capsys.readouterr().err == ''
