import json
import os
from copy import deepcopy

import numpy as np
import pytest
from export_cases import contents, run, source

from mmwsss.pseudo_labels import export, export_folder
from mmwsss.pseudo_labels.export_data import (
    ExportError,
    export_dataset_cfg,
)
from mmwsss.pseudo_labels.manifest import ExportSource, export_identity
from mmwsss.registry import DATASETS
from mmwsss.utils.files import locked, write_palette_png


def test_goes_on_where_it_was_interrupted(model, dataset, tmp_path, monkeypatch):
    whole = run(model, dataset, tmp_path / 'whole')
    before = contents(whole.masks)
    calls = []

    def failing(path, mask, palette):
        if len(calls) == 3:
            raise OSError('disk full')
        calls.append(path.name)
        write_palette_png(path, mask, palette)

    with monkeypatch.context() as patch:
        patch.setattr(export, 'write_palette_png', failing)
        with pytest.raises(OSError, match='disk full'):
            run(model, dataset, tmp_path / 'part')
    assert not (tmp_path / 'part' / 'manifest.json').exists()
    masks = tmp_path / 'part' / 'masks'
    assert len(contents(masks)) == 3
    (masks / '.train_0.png.1-2.partial').write_bytes(b'half')
    damaged = masks / calls[0]
    damaged.write_bytes(damaged.read_bytes()[:60])
    kept = {name: os.stat(masks / name).st_mtime_ns for name in calls[1:]}
    result = run(model, dataset, tmp_path / 'part')
    assert (result.written, result.skipped) == (6, 2)
    assert contents(masks) == before
    assert {name: os.stat(masks / name).st_mtime_ns for name in calls[1:]} == kept
    assert sorted(path.name for path in masks.iterdir()) == sorted(before)
    assert result.manifest['scores'] == whole.manifest['scores']
    assert result.manifest['images'] == whole.manifest['images']
    runs = result.manifest['runs']
    assert [entry['num_left'] for entry in runs] == [8, 6]
    assert [entry['num_written'] for entry in runs] == [2, 6]  # of the three of the first run one was damaged
    assert (runs[0]['seconds'], runs[1]['written_by_rank']) == (None, [6])


def test_a_finished_export_stays_as_it_is(model, dataset, tmp_path):
    first = run(model, dataset, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    again = run(model, dataset, tmp_path)
    assert (again.written, again.skipped, again.manifest) == (
        0,
        8,
        json.loads((tmp_path / 'manifest.json').read_text()),
    )
    assert again.manifest['runs'] == first.manifest['runs']
    assert {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()} == before
    (first.masks / 'train_3.png').unlink()
    runs = run(model, dataset, tmp_path).manifest['runs']
    assert runs[0] == first.manifest['runs'][0]
    assert [entry['num_written'] for entry in runs] == [8, 1]


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        ({'model_sha256': 'c1'}, 'model config'),
        ({'checkpoint_sha256': 'dead'}, 'checkpoint sha256'),
        ({'steps': [{'type': 'Decide'}], 'iteration': 3}, 'iteration, steps'),
    ],
)
def test_refuses_what_another_export_left(model, dataset, tmp_path, change, named):
    run(model, dataset, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ExportError, match=f'differs in: {named};.*overwrite'):
        run(model, dataset, tmp_path, src=source(**change))
    assert contents(tmp_path) == before
    (tmp_path / 'masks' / 'other.png').write_bytes(b'')
    result = run(model, dataset, tmp_path, src=source(**change), overwrite=True)
    assert result.written == 8
    assert contents(tmp_path) == before


def test_refuses_foreign_masks(model, dataset, tmp_path):
    (tmp_path / 'masks').mkdir()
    (tmp_path / 'masks' / 'mine.png').write_bytes(b'')
    with pytest.raises(ExportError, match=r'masks without export\.json'):
        run(model, dataset, tmp_path)
    assert (tmp_path / 'masks' / 'mine.png').exists()


def test_refuses_masks_of_other_image_labels(cfg, model, dataset, tmp_path, monkeypatch):
    run(model, dataset, tmp_path)
    other = DATASETS.build(export_dataset_cfg(cfg, 'train'))
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    infos[3]['image_labels'] = np.roll(infos[3]['image_labels'], 1)
    monkeypatch.setattr(other, 'get_data_info', lambda index: infos[index])
    with pytest.raises(ExportError, match='differs in: image labels;'):
        run(model, other, tmp_path)


def test_what_changes_no_mask_is_no_other_export(cfg):
    def identity(changes):
        changed = deepcopy(cfg)
        changed.merge_from_dict(changes)
        origin = ExportSource.of(changed, 'train', None, export_dataset_cfg(changed, 'train'))
        return export_identity(origin, ['a'], None), origin.config_sha256

    before, whole = identity({})
    for change in ('test_dataloader.batch_size', 'test_dataloader.num_workers', 'optim_wrapper.optimizer.lr'):
        same, other = identity({change: 5})
        assert same == before, change
        assert other != whole
    for change, named in [
        ({'model.test_cfg.bg_setting': 3.0}, 'model config'),
        ({'train_dataloader.dataset.label_source': 'xml'}, 'dataset config'),
        ({'test_dataloader.dataset.pipeline.1.size': (64, 64)}, 'dataset config'),
    ]:
        found, _ = identity(change)
        assert [key for key in before if found[key] != before[key]] == [named]


def test_one_export_at_a_time(model, dataset, tmp_path):
    with locked(tmp_path / '.lock'), pytest.raises(ExportError, match='another process is exporting into'):
        run(model, dataset, tmp_path)
    assert not (tmp_path / 'masks').exists()
    assert run(model, dataset, tmp_path).written == 8


def test_failed_removal_is_an_error(model, dataset, tmp_path, monkeypatch):
    run(model, dataset, tmp_path)

    def failing(folder):
        raise PermissionError(13, 'Permission denied', str(folder))

    monkeypatch.setattr('mmwsss.utils.files.shutil.rmtree', failing)
    with pytest.raises(ExportError, match='Permission denied'):
        run(model, dataset, tmp_path, overwrite=True)


def test_any_failure_of_the_first_process_reaches_the_others(model, dataset, tmp_path, monkeypatch):
    answers = []
    monkeypatch.setattr(export_folder, 'broadcast_object_list', lambda outcome: answers.append(list(outcome)))
    monkeypatch.setattr(export_folder, 'remove_partial_files', lambda folder: {}['key'])
    with pytest.raises(ExportError, match="KeyError: 'key'"):
        run(model, dataset, tmp_path)
    assert "KeyError: 'key'" in answers[0][2][0]
