import json

import numpy as np
import pytest
from PIL import Image
from tiny_inference import NAMES

from mmwsss.apis import UsageError, prediction_files
from mmwsss.pseudo_labels.stored_maps import read_maps


def test_files_of_a_prediction(files, inferencer, tmp_path):
    out, names = tmp_path / 'out', inferencer.classes
    found = inferencer(files.paths[:2], classes=[[names[1], names[4]], None], out_dir=out, maps=False, progress=False)
    assert found[0].maps is None
    for prediction in found:
        mask = Image.open(out / 'masks' / f'{prediction.name}.png')
        assert mask.mode == 'P'
        np.testing.assert_array_equal(np.asarray(mask), prediction.segmentation)
        pseudo = Image.open(out / 'pseudo_masks' / f'{prediction.name}.png')
        np.testing.assert_array_equal(np.asarray(pseudo), prediction.pseudo_mask)
        assert Image.open(out / 'panels' / f'{prediction.name}.png').size[0] > 4 * 48
    maps, values = read_maps(out / 'maps' / f'{NAMES[0]}.npz')
    assert values.tolist() == [0, 1, 4]
    assert maps.shape[1:] == found[0].segmentation.shape
    record = json.loads((out / 'predictions.json').read_text())
    assert record['images'][NAMES[0]]['given_classes'] == [names[1], names[4]]
    assert 'given_classes' not in record['images'][NAMES[1]]
    assert record['skipped'] == []
    assert not list(out.rglob('.*'))
    with pytest.raises(UsageError, match=f'{NAMES[0]}.* and .*{NAMES[0]}.* are both called {NAMES[0]} and'):
        inferencer([files.paths[0], files.paths[0]], out_dir=tmp_path / 'twice', progress=False)


def test_a_stream_that_is_left_has_written_what_it_gave(files, inferencer, tmp_path):
    stream = inferencer.stream((path for path in files.paths * 40), out_dir=tmp_path)
    name = next(stream).name
    stream.close()
    assert name in json.loads((tmp_path / 'predictions.json').read_text())['images']
    assert (tmp_path / 'masks' / f'{name}.png').is_file()
    assert (tmp_path / 'panels' / f'{name}.png').is_file()


def done_images(out):
    """Names in the record below ``out``, each of which has all its files."""
    names = list(json.loads((out / 'predictions.json').read_text())['images'])
    assert all((out / folder / f'{name}.png').is_file() for name in names for folder in ('masks', 'panels'))
    return names


@pytest.mark.parametrize('error', [KeyboardInterrupt, RuntimeError])
def test_the_record_lists_what_was_done_before_an_error(files, inferencer, tmp_path, monkeypatch, error):
    test_step = inferencer.model.test_step
    failing = iter([False, True])
    monkeypatch.setattr(inferencer.model, 'test_step', lambda data: raises(error) if next(failing) else test_step(data))
    out = tmp_path / 'out'
    with pytest.raises(error):
        inferencer(files.paths, out_dir=out, progress=False)
    assert done_images(out) == sorted(NAMES[:2]) == sorted(inferencer.written)
    failing = iter([True])
    with pytest.raises(error):
        inferencer(files.paths[2:], out_dir=out, progress=False)
    assert done_images(out) == sorted(NAMES[:2]), 'nothing was replaced, the record of before stays'
    assert inferencer.written == {}


def raises(error):
    raise error


def test_an_image_whose_files_cannot_be_written_is_not_in_the_record(files, inferencer, tmp_path, monkeypatch):
    save = prediction_files.save_png

    def full(path, array):
        if path.stem == NAMES[0]:
            raise OSError(28, 'No space left on device')
        save(path, array)

    monkeypatch.setattr(prediction_files, 'save_png', full)
    with pytest.raises(OSError, match='No space left'):
        inferencer(files.paths, out_dir=tmp_path, progress=False)
    assert done_images(tmp_path) == sorted(NAMES[1:])


def test_an_output_folder_that_cannot_be_made(files, inferencer, tmp_path):
    (tmp_path / 'file').write_text('')
    for out, reason in (('file', 'it is a file'), ('file/x', 'Not a directory')):
        with pytest.raises(UsageError, match=rf'out_dir .*{out}: no files can be written there \({reason}\)'):
            inferencer(files.paths[0], out_dir=tmp_path / out, progress=False)
