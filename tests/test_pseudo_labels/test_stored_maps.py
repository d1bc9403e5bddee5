import json
import os
import zipfile
import zlib

import numpy as np
import pytest
import torch
from export_cases import contents, run, source

from mmwsss.datasets.checks import read_mask
from mmwsss.pseudo_labels import export
from mmwsss.pseudo_labels.export_data import ExportError, image_ids
from mmwsss.pseudo_labels.labeler import LabelState, PseudoLabeler
from mmwsss.pseudo_labels.manifest import mask_path
from mmwsss.pseudo_labels.stored_maps import maps_path, present_maps, read_maps, write_maps


def some_maps(count=2):
    return torch.rand(count, 5, 7, generator=torch.Generator().manual_seed(0))


def test_maps_come_back_in_half_precision(tmp_path):
    maps = some_maps()
    write_maps(tmp_path / 'new' / 'a.npz', maps, torch.tensor([0, 20]))
    found, values = read_maps(tmp_path / 'new' / 'a.npz')
    assert (found.dtype, values.dtype, values.tolist()) == (torch.float32, torch.int64, [0, 20])
    assert torch.equal(found, maps.half().float())
    assert sorted(path.name for path in (tmp_path / 'new').iterdir()) == ['a.npz']
    with np.load(tmp_path / 'new' / 'a.npz') as arrays:
        assert {name: str(arrays[name].dtype) for name in arrays} == {'maps': 'float16', 'values': 'int64'}


def test_an_image_without_classes_has_no_maps(tmp_path):
    write_maps(tmp_path / 'a.npz', some_maps(0), torch.zeros(0, dtype=torch.long))
    maps, values = read_maps(tmp_path / 'a.npz')
    assert (tuple(maps.shape), tuple(values.shape)) == ((0, 5, 7), (0,))


def test_one_content_makes_one_file(tmp_path):
    for name in 'ab':
        write_maps(tmp_path / f'{name}.npz', some_maps(), torch.tensor([1, 2]))
    assert (tmp_path / 'a.npz').read_bytes() == (tmp_path / 'b.npz').read_bytes()


@pytest.mark.parametrize(('maps', 'values', 'message'), [
    (torch.rand(1, 2, 3, 4), torch.tensor([1]), r'expected maps \(n, H, W\)'),
    (torch.ones(2, 3, 4, dtype=torch.long), torch.tensor([1, 2]), r'expected maps \(n, H, W\) of floating point'),
    (torch.rand(2, 3, 4), torch.tensor([1]), 'one whole number for each of the 2 maps'),
    (torch.rand(2, 3, 4), torch.tensor([1, 1]), r'different and not negative, got \[1, 1\]'),
    (torch.full((1, 3, 4), 1e6), torch.tensor([1]), 'not finite in float16'),
])  # fmt: skip
def test_what_cannot_be_written(tmp_path, maps, values, message):
    with pytest.raises(ValueError, match=rf'a\.npz cannot be written: .*{message}'):
        write_maps(tmp_path / 'a.npz', maps, values)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_read(tmp_path):
    path = tmp_path / 'a.npz'
    with pytest.raises(FileNotFoundError, match=r'a\.npz.*--maps'):
        read_maps(path)
    write_maps(path, some_maps(), torch.tensor([1, 2]))
    whole = path.read_bytes()
    middle = len(whole) // 2
    for damaged in (whole[:middle], b'', whole[:60] + bytes(40) + whole[100:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r'a\.npz holds no maps of an export'):
            read_maps(path)
    random = torch.rand(1, 10, 10, generator=torch.Generator().manual_seed(0))
    write_maps(path, random, torch.tensor([1]))
    whole, kinds = path.read_bytes(), set()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :])
        try:
            maps, _ = read_maps(path)
        except ValueError as error:
            kinds.add(type(error.__cause__))
        else:
            assert torch.equal(maps, random.half().float()), 'only what belongs to no array may be damaged unseen'
    assert {zlib.error, zipfile.BadZipFile} <= kinds
    np.savez(path, maps=np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match='values'):
        read_maps(path)
    with path.open('wb') as stream:
        np.save(stream, np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match='holds no maps'):
        read_maps(path)


def test_the_maps_of_present_classes():
    maps, labels = some_maps(3)[None], torch.tensor([[0.0, 1.0, 1.0]])
    kept, values = present_maps(LabelState(maps, False, (5, 7), labels=labels))
    assert values.tolist() == [2, 3]
    assert torch.equal(kept, maps[0, 1:])
    kept, values = present_maps(LabelState(maps, True, (5, 7), labels=labels[:, :2]), torch.ones(1, 2))
    assert values.tolist() == [0, 2]
    assert torch.equal(kept, maps[0, [0, 2]])
    _, values = present_maps(LabelState(maps, False, (5, 7)), labels)
    assert values.tolist() == [2, 3]
    _, values = present_maps(LabelState(maps, False, (5, 7)))
    assert values.tolist() == [1, 2, 3]


STEPS = [
    dict(type='MaskAbsent'),
    dict(type='PeakNormalize'),
    dict(type='AddBackground'),
    dict(type='Resize'),
    dict(type='Decide'),
]


def test_exported_maps_decide_the_exported_masks(model, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(model, 'pseudo_labeler', PseudoLabeler(STEPS))
    result = run(model, dataset, tmp_path, store_maps=True, workers=2)
    assert result.manifest['maps'] is True
    for index, name in enumerate(image_ids(dataset)):
        maps, values = read_maps(maps_path(tmp_path / 'maps', name))
        labels = np.flatnonzero(dataset.get_data_info(index)['image_labels'])
        assert values.tolist() == [0, *(labels + 1)]
        decided = values[maps.argmax(dim=0)]
        mask = read_mask(str(mask_path(result.masks, name)))
        assert decided.shape == mask.shape
        assert (decided.numpy() == mask).mean() > 0.99


def test_goes_on_where_maps_are_missing(model, dataset, tmp_path, monkeypatch):
    run(model, dataset, tmp_path / 'whole', store_maps=True)
    files = {path.name: path.read_bytes() for path in (tmp_path / 'whole' / 'maps').iterdir()}
    assert len(files) == 8
    calls = []

    def failing(path, maps, values):
        if len(calls) == 3:
            raise OSError('disk full')
        calls.append(path.name)
        write_maps(path, maps, values)

    out = tmp_path / 'part'
    with monkeypatch.context() as patch:
        patch.setattr(export, 'write_maps', failing)
        with pytest.raises(OSError, match='disk full'):
            run(model, dataset, out, store_maps=True)
    assert len(contents(out)) == 3
    (out / 'maps' / calls[0]).write_bytes(b'half')
    (out / 'maps' / calls[1]).unlink()
    (out / 'maps' / '.train_0.npz.1-2.partial').write_bytes(b'half')
    kept = os.stat(out / 'maps' / calls[2]).st_mtime_ns
    result = run(model, dataset, out, store_maps=True)
    assert (result.written, result.skipped) == (7, 1)
    assert {path.name: path.read_bytes() for path in (out / 'maps').iterdir()} == files
    assert os.stat(out / 'maps' / calls[2]).st_mtime_ns == kept
    assert contents(out / 'masks') == contents(tmp_path / 'whole' / 'masks')


def test_exports_with_and_without_maps_are_different(model, dataset, tmp_path):
    run(model, dataset, tmp_path)
    with pytest.raises(ExportError, match='differs in: maps;'):
        run(model, dataset, tmp_path, store_maps=True)
    assert not (tmp_path / 'maps').exists()
    run(model, dataset, tmp_path, store_maps=True, overwrite=True)
    assert json.loads((tmp_path / 'export.json').read_text())['maps'] is True
    with pytest.raises(ExportError, match='differs in: maps;'):
        run(model, dataset, tmp_path)
    assert run(model, dataset, tmp_path, overwrite=True, src=source()).manifest['maps'] is False
    assert not (tmp_path / 'maps').exists()
