"""Which file of a work dir is meant."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmwsss.apis.checkpoints import find_checkpoint
from mmwsss.apis.errors import UsageError


def write_run(folder: Path, **noted: str) -> None:
    torch.save(dict(state_dict={}, message_hub=dict(runtime_info=noted)), folder / 'iter_4.pth')
    (folder / 'last_checkpoint').write_text('/old/place/iter_4.pth')


def test_the_best_is_the_one_that_the_last_names(tmp_path: Path) -> None:
    write_run(tmp_path, best_ckpt='/old/place/best_score_iter_2.pth')
    for iteration in (1, 2):
        (tmp_path / f'best_score_iter_{iteration}.pth').touch()
    assert find_checkpoint(str(tmp_path / 'best')) == str(tmp_path / 'best_score_iter_2.pth')
    assert find_checkpoint(str(tmp_path)) == str(tmp_path / 'iter_4.pth')


def test_a_best_that_cannot_be_told_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r'best does not exist'):
        find_checkpoint(str(tmp_path / 'best'))
    write_run(tmp_path)
    with pytest.raises(UsageError, match=r'iter_4\.pth names no best checkpoint; set .*save_best'):
        find_checkpoint(str(tmp_path / 'best'))
    write_run(tmp_path, best_ckpt='best_score_iter_2.pth')
    with pytest.raises(UsageError, match=r'iter_4\.pth names best_score_iter_2\.pth, which does not exist'):
        find_checkpoint(str(tmp_path / 'best'))
    (tmp_path / 'iter_4.pth').write_bytes(b'PK')
    with pytest.raises(UsageError, match=r'iter_4\.pth cannot be read as the checkpoint of a run'):
        find_checkpoint(str(tmp_path / 'best'))
