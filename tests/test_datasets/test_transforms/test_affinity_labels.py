from pathlib import Path

import numpy as np
import pytest
import torch
from mini_voc import LABELS

from mmwsss.datasets import DatasetError, WeakVOCDataset
from mmwsss.datasets.transforms import LoadAffinityLabels
from mmwsss.pseudo_labels.stored_maps import maps_path, write_maps

SIZE = (16, 24)
STEPS = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]


def one_hot(row):
    """Scores (3, 16, 24) that decide for map ``row[i]`` in the columns 4 i to 4 i + 3."""
    scores = torch.zeros(3, *SIZE)
    for i, best in enumerate(row):
        scores[best, :, 4 * i : 4 * i + 4] = 1
    return scores


@pytest.fixture
def folders(tmp_path: Path):
    """Folders of two exports of every image of the mini VOC: classes 5 and 2, in this order."""
    names = [str(tmp_path / name) for name in ('low', 'high')]
    for folder, scores in zip(names, (one_hot([1, 1, 0, 0, 2, 2]), one_hot([1, 1, 1, 0, 0, 2]))):
        for image_id in LABELS:
            write_maps(maps_path(folder, image_id), scores, torch.tensor([0, 5, 2]))
    return names


def sample(size=SIZE):
    image = np.arange(1, size[0] * size[1] * 3 + 1).reshape(*size, 3) % 251 + 1
    return dict(img=image.astype(np.uint8), img_id='a_01')


def test_labels_are_classes_of_the_cells(folders):
    out = LoadAffinityLabels(*folders, crop_size=24, stride=4, flip_prob=0.0)(sample())
    assert out['img'].shape == (24, 24, 3)
    rows = out['gt_seg_map']
    assert rows.shape == (6, 6)
    # Certain foreground, uncertain, background that high is sure of, even where low says foreground.
    assert [5, 5, 255, 0, 0, 2] in rows.tolist()
    padded = (out['img'] == 0).all(axis=-1).reshape(6, 4, 6, 4).all(axis=(1, 3))
    assert padded.sum() >= 6
    assert (rows[padded] == 255).all()


def test_image_and_labels_share_crop_and_flip(folders, monkeypatch):
    step = LoadAffinityLabels(*folders, crop_size=8, stride=4)
    seen = set()
    for seed in range(30):
        np.random.seed(seed)
        out = step(sample())
        image = sample()['img'][:, ::-1] if out['flip'] else sample()['img']
        places = [
            (y, x) for y in range(9) for x in range(17) if np.array_equal(image[y : y + 8, x : x + 8], out['img'])
        ]
        assert len(places) == 1
        x = places[0][1]
        # Of columns of one kind only.
        row = np.repeat([5, 5, 255, 0, 0, 2], 4)[:: -1 if out['flip'] else 1][x : x + 8]
        for cell, label in zip(row.reshape(2, 4), out['gt_seg_map'][0]):
            assert label in cell
            if len(set(cell)) == 1:
                assert label == cell[0]
        seen.add((bool(out['flip']), *places[0]))
    assert len(seen) > 20
    assert {flip for flip, *_ in seen} == {True, False}


def test_missing_maps_are_found_before_training(voc, folders):
    pipeline = [STEPS[0], dict(type='LoadAffinityLabels', low=folders[0], high=folders[1], crop_size=16), STEPS[1]]

    def build(**settings):
        prefix = dict(seg_map_path=None)
        return WeakVOCDataset('split.txt', data_root=str(voc), data_prefix=prefix, label_source=None,
                              pipeline=pipeline, **settings)  # fmt: skip

    item = build()[0]
    assert item['inputs'].shape == (3, 16, 16)
    assert item['data_samples'].gt_sem_seg.data.shape == (1, 2, 2)
    gone = maps_path(folders[1], 'a_03')
    gone.unlink()
    with pytest.raises(DatasetError, match=r'1 problem.*\(missing maps: 1\)') as error:
        build()
    assert f'{gone}: no such file; write it with tools/generate_pseudo_labels.py --maps' in str(error.value)
    assert len(build(check='none')) == 4
    pipeline[1]['high'] = str(Path(folders[1]) / 'gone')
    with pytest.raises(DatasetError, match='gone: no such folder'):
        build()


def test_files_that_do_not_belong_together_are_refused(folders):
    low = maps_path(folders[0], 'a_01')
    step = LoadAffinityLabels(*folders, crop_size=16)
    for values, message in (
        ([0, 5, 3], r'of classes \[0, 5, 3\], .* of \[0, 5, 2\]; make both'),
        ([1, 5, 2], 'has no background map; export with a chain that has AddBackground'),
    ):
        write_maps(low, one_hot([0] * 6), torch.tensor(values))
        with pytest.raises(ValueError, match=message) as error:
            step(sample())
        assert str(low) in str(error.value)
        (problem,) = step.find_problems([dict(img_id='a_01')])
        assert problem.kind == 'maps that do not fit'
    write_maps(low, one_hot([0] * 6), torch.tensor([0, 5, 2]))
    with pytest.raises(ValueError, match=r'a_01 are \(16, 24\), the image \(16, 20\); put LoadAffinityLabels right'):
        step(sample((16, 20)))


@pytest.mark.parametrize(
    ('settings', 'message'), [(dict(crop_size=20), 'multiple of stride 8'), (dict(flip_prob=2), 'flip_prob')]
)
def test_impossible_settings_of_the_cells_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LoadAffinityLabels('low', 'high', **settings)
