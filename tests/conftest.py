"""What all tests share; imported before any of them, so that ``mmwsss`` comes before ``mmseg``."""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

os.environ.setdefault('OMP_NUM_THREADS', '1')
REPOSITORY = Path(__file__).resolve().parents[1]
# Tools that tests start as programs import the package from here, installed or not.
os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get('PYTHONPATH')]))

import torch  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

import mmwsss  # noqa: E402, F401
from mmwsss.apis import run_cli  # noqa: E402

torch.set_num_threads(1)
# mmengine's loggers outlive a test and write to the stream that it captured, which is closed then.
logging.raiseExceptions = False


def pytest_collection_finish() -> None:
    """Leave what the imports made out of all later collections of garbage.

    mmengine asks for one whenever a data set is built, and each would walk over a million objects.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def scope() -> None:
    """Our scope for every test, whatever a runner in the one before has left behind."""
    init_default_scope('mmwsss')


@pytest.fixture(scope='session')
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope='session')
def parity_dir() -> Path:
    """Folder with inputs and outputs of the official implementations; tests that need it skip where it is not."""
    folder = Path(os.environ.get('MMWSSS_PARITY_DIR', REPOSITORY.parent / 'shared' / 'parity'))
    if not folder.is_dir():
        pytest.skip(f'no parity vectors: {folder} does not exist, MMWSSS_PARITY_DIR names another folder')
    return folder


@pytest.fixture(scope='session')
def load_tool() -> Callable[[str], ModuleType]:
    """Import a script by its path below ``tools``, without the suffix: ``load_tool('misc/print_config')``."""

    def load(name: str) -> ModuleType:
        path = REPOSITORY / 'tools' / f'{name}.py'
        spec = importlib.util.spec_from_file_location(f'tool_{path.stem}', path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def run_main(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run ``main`` of a script with arguments, as its command line does; returns the exit status."""

    def run(script: ModuleType, *args: object) -> int:
        monkeypatch.setattr('sys.argv', [script.__file__, *map(str, args)])
        try:
            run_cli(script.main)
        except SystemExit as stop:
            return stop.code
        return 0

    return run


@pytest.fixture
def load_converter(
    load_tool: Callable[[str], ModuleType], run_main: Callable[..., int]
) -> Callable[[str], Callable[..., int]]:
    """The command of a converter by its name, to call with what follows the name; returns the exit status."""
    return lambda name: partial(run_main, load_tool(f'model_converters/{name}'))


@pytest.fixture
def check_refusal(tmp_path: Path, capsys: pytest.CaptureFixture) -> Callable[[Callable[..., int], Path, str], None]:
    """Check that a converter refuses a file with status 2 and one line that has ``message``, and writes nothing."""

    def check(convert: Callable[..., int], source: Path, message: str) -> None:
        folder = tmp_path / 'refused'
        assert convert(source, folder / 'converted.pth') == 2
        out, err = capsys.readouterr()
        assert out == ''
        assert err.startswith('error: ')
        assert message in err
        assert err.count('\n') == 1
        assert not folder.exists()

    return check
