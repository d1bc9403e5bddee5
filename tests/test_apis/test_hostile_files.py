"""Files of strangers are refused with one line, and nothing in them is run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint
from torch import nn

from mmwsss.apis import launch
from mmwsss.apis.checkpoints import best_checkpoint, check_checkpoint, check_resumable
from mmwsss.apis.errors import UsageError
from mmwsss.apis.testing import read_checkpoint
from mmwsss.models.utils.official_checkpoints import read_pmm_checkpoint
from mmwsss.pseudo_labels.export_data import ExportError
from mmwsss.pseudo_labels.export_folder import export_folder


class Trap:
    """Makes a folder when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.fixture(params=['zip', 'legacy'])
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A checkpoint of a training with a trap in it."""
    path = tmp_path / 'iter_4.pth'
    content = dict(meta=Trap(tmp_path / 'sprung'), state_dict={}, message_hub={}, optimizer={})
    torch.save(content, path, _use_new_zipfile_serialization=request.param == 'zip')
    (tmp_path / 'last_checkpoint').write_text(str(path))
    return path


READERS: dict[str, Callable[[Path], object]] = {
    'check': lambda path: check_checkpoint(str(path)),
    'resume': lambda path: launch.set_resume(Config(dict(work_dir='x')), str(path)),
    'resume auto': lambda path: launch.set_resume(Config(dict(work_dir=str(path.parent))), 'auto'),
    'test': lambda path: read_checkpoint(str(path)),
    'best': lambda path: best_checkpoint(str(path.parent)),
    'official': read_pmm_checkpoint,
    'mmengine': lambda path: load_checkpoint(nn.Linear(1, 1), str(path)),
    'download': lambda path: CheckpointLoader.load_checkpoint(f'https://example.org/{path.parent.name}.pth'),
}


@pytest.mark.parametrize('reader', READERS)
def test_nothing_is_run(hostile: Path, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    monkeypatch.setenv('TORCH_HOME', str(hostile.parent / 'hub'))
    monkeypatch.setattr(
        torch.hub, 'download_url_to_file', lambda url, target, *rest, **options: shutil.copy(hostile, target)
    )
    with pytest.raises(Exception, match=r'mkdir|cannot be read') as caught:
        READERS[reader](hostile)
    assert not (hostile.parent / 'sprung').exists()
    if reader not in ('mmengine', 'download'):
        assert len(str(caught.value).splitlines()) == 1


def test_the_trap_works(hostile: Path) -> None:
    torch.load(hostile, weights_only=False)
    assert (hostile.parent / 'sprung').is_dir()


def test_what_is_no_checkpoint_of_a_training(tmp_path: Path) -> None:
    path = tmp_path / 'a.pth'
    for content in (dict(state_dict={}), [1]):
        torch.save(content, path)
        with pytest.raises(UsageError, match=r'a\.pth is no checkpoint to go on from, it has no meta; .*load_from='):
            check_resumable(str(path))
    path.write_text('no file of torch')
    with pytest.raises(UsageError, match=r'a\.pth is damaged or no checkpoint'):
        check_checkpoint(str(path))


@pytest.mark.parametrize('name', ['../mine', 'a/../../mine', '/mine', '..\\mine', 'C:\\mine', 'C:mine'])
def test_ids_that_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match='leads out of the folder'), export_folder(tmp_path / 'x', [name], {}, False):
        pass
    assert not (tmp_path / 'x').exists()


def test_ids_that_do_not(tmp_path: Path) -> None:
    with export_folder(tmp_path, ['a', 'b/c', 'd..e', '..f'], {}, False) as folder:
        assert folder.left == [0, 1, 2, 3]
