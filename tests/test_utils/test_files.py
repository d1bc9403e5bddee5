import json
import os
import stat

import numpy as np
import pytest
import torch
from PIL import Image

from mmwsss.utils.files import (
    file_sha256,
    remove_partial_files,
    replacing,
    sync_files,
    write_json,
    write_palette_png,
)


def test_files_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'new' / 'a.txt'
    with replacing(path) as temporary:
        temporary.write_text('one')
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == 'one'

    def fail():
        with replacing(path) as temporary:
            temporary.write_text('tw')
            raise OSError('disk full')

    with pytest.raises(OSError, match='disk full'):
        fail()
    assert path.read_text() == 'one'
    assert [entry.name for entry in path.parent.iterdir()] == ['a.txt']


@pytest.mark.parametrize('durable', [True, False])
def test_content_is_on_the_disk_before_its_name(tmp_path, monkeypatch, durable):
    calls, sync, replace = [], os.fsync, os.replace

    def synced(descriptor):
        calls.append('folder' if stat.S_ISDIR(os.fstat(descriptor).st_mode) else 'file')
        sync(descriptor)

    monkeypatch.setattr(os, 'fsync', synced)
    monkeypatch.setattr(os, 'replace', lambda source, target: calls.append('rename') or replace(source, target))
    with replacing(tmp_path / 'a.txt', durable=durable) as temporary:
        temporary.write_text('one')
    assert calls == (['file', 'rename', 'folder'] if durable else ['rename'])
    calls.clear()
    sync_files([tmp_path / 'a.txt'])
    assert calls == ['file', 'folder']


def test_leftovers_of_killed_processes(tmp_path):
    inner = tmp_path / 'inner'
    inner.mkdir()
    for name in ('.a.png.7-7.partial', 'b.partial', '.hidden'):
        (inner / name).touch()
    assert remove_partial_files(tmp_path, below=False) == 0
    assert remove_partial_files(tmp_path) == 1
    assert sorted(path.name for path in inner.iterdir()) == ['.hidden', 'b.partial']


def test_json(tmp_path):
    path = write_json(tmp_path / 'a.json', {1: (np.float32(0.5), torch.tensor(3), float('nan')), 'b': None})
    assert json.loads(path.read_text()) == {'1': [0.5, 3, None], 'b': None}
    with pytest.raises(TypeError):
        write_json(path, {'c': object()})
    assert json.loads(path.read_text())['b'] is None


def test_palette_png_keeps_every_value(tmp_path):
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_palette_png(tmp_path / 'a.png', mask, [[0, 0, 0], [1, 2, 3]])
    with Image.open(tmp_path / 'a.png') as image:
        assert image.mode == 'P'
        assert image.getpalette()[3:6] == [1, 2, 3]
        assert np.array_equal(np.asarray(image), mask)


def test_sha256(tmp_path):
    (tmp_path / 'a').write_bytes(b'abc')
    assert file_sha256(tmp_path / 'a') == 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
