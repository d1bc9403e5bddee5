"""No vector of an implemented method may lie there without a test."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from vectors import PARITY_DIR, untested_files

MODULES = sorted(file.stem for file in Path(__file__).parent.glob('test_*.py') if file.stem != 'test_guard')
# A method is complete when it has a file of its own; blocks of methods still to come are tested in test_*_vectors.py.
METHODS = [name.removeprefix('test_') for name in MODULES if not name.endswith('_vectors')]


@pytest.mark.parametrize('method', METHODS)
def test_every_vector_has_a_test(method: str) -> None:
    if not (PARITY_DIR / method).is_dir():
        pytest.skip(f'no parity vectors at {PARITY_DIR / method}')
    for module in MODULES:
        importlib.import_module(module)
    assert untested_files(method) == []


def test_an_unknown_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module('test_vitpcm')
    (tmp_path / 'vitpcm').mkdir()
    for name in ('03_mce_loss.npz', '99_new.npz', 'README.md'):
        (tmp_path / 'vitpcm' / name).touch()
    monkeypatch.setattr('vectors.PARITY_DIR', tmp_path)
    assert untested_files('vitpcm') == ['99_new.npz']
