import random
from io import BytesIO

import numpy as np
import pytest
import torch
from mini_voc import save_pair
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmseg.datasets import PascalVOCDataset
from PIL import Image
from torch.utils.data import DataLoader

from mmwsss.datasets import DatasetError, ShapesDataset, WeakSegDataset, WeakVOCDataset
from mmwsss.datasets.checks import PROGRESS_FROM, Problem, map_threads, raise_problems
from mmwsss.registry import DATASETS
from mmwsss.utils.seeding import SampleDraw


def load(root, **kwargs):
    return WeakVOCDataset(**{'ann_file': 'split.txt', 'data_root': str(root), **kwargs})


def kinds_of(root, **kwargs):
    with pytest.raises(DatasetError) as caught:
        load(root, **kwargs)
    return [problem.kind for problem in caught.value.problems]


def random_numbers(results):
    return [results['sample_idx'], random.random(), float(np.random.rand()), float(torch.rand(()))]


def test_items_follow_the_contract(voc):
    item = load(voc)[3]
    assert item['image_labels'].dtype == np.float32
    assert np.flatnonzero(item['image_labels']).tolist() == [7, 11, 19]
    assert item['img_path'].endswith('a_04.jpg')
    assert item['seg_map_path'].endswith('a_04.png')
    assert (item['seg_fields'], item['label_map'], item['reduce_zero_label']) == ([], None, False)


def test_metainfo_comes_from_mmseg_and_shapes():
    assert WeakVOCDataset.METAINFO == PascalVOCDataset.METAINFO
    assert ShapesDataset.METAINFO['classes'][0] == 'background'
    assert len(ShapesDataset.METAINFO['classes']) == len(ShapesDataset.METAINFO['palette'])


def test_loads_masks_through_mmseg_with_the_label_map(voc):
    pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'mmseg.LoadAnnotations'}]
    dataset = DATASETS.build(
        {
            'type': 'WeakVOCDataset', 'ann_file': 'split.txt', 'data_root': str(voc), 'pipeline': pipeline,
            'metainfo': {'classes': ['background', 'tvmonitor', 'cat']}, 'ignore_index': 255,
        }
    )  # fmt: skip
    item = dataset[3]
    assert item['gt_seg_map'].shape == item['img'].shape[:2] == (16, 24)
    assert item['gt_seg_map'][:4, 0].tolist() == [255, 2, 255, 1]


def test_plain_folder_with_several_suffixes_and_no_masks(tmp_path):
    (tmp_path / 'sub').mkdir()
    for name in ('b.png', 'sub/a.jpg'):
        Image.new('RGB', (8, 6)).save(tmp_path / name)
    (tmp_path / 'labels.csv').write_text('b,thing\na,\n')
    dataset = WeakSegDataset(
        data_root=str(tmp_path),
        metainfo={'classes': ('background', 'thing', 'other')},
        label_source={'type': 'FileLabels', 'path': 'labels.csv'},
        img_suffix=('.jpg', '.png'),
    )
    assert [dataset[i]['img_id'] for i in range(2)] == ['b', 'sub/a']
    assert 'seg_map_path' not in dataset[0]
    assert dataset.image_label_matrix().tolist() == [[1, 0], [0, 0]]
    (tmp_path / 'b.jpg').write_bytes((tmp_path / 'sub/a.jpg').read_bytes())
    with pytest.raises(DatasetError, match='duplicate id: b: occurs 2 times'):
        WeakSegDataset(
            data_root=str(tmp_path), metainfo={'classes': ('background', 'thing')}, label_source=None,
            img_suffix=('.jpg', '.png'),
        )  # fmt: skip


def test_no_labels_without_source(voc):
    dataset = load(voc, label_source=None)
    assert 'image_labels' not in dataset[0]
    with pytest.raises(ValueError, match='label_source is None'):
        dataset.image_label_matrix()


def test_one_error_counts_every_kind_and_lists_the_first(voc):
    save_pair(voc, 'a_05', [21])
    (voc / 'JPEGImages' / 'a_01.jpg').unlink()
    (voc / 'SegmentationClass' / 'a_02.png').unlink()
    Image.new('L', (24, 17)).save(voc / 'SegmentationClass' / 'a_03.png')
    (voc / 'JPEGImages' / 'a_04.jpg').write_bytes(b'no image')
    (voc / 'split.txt').write_text('a_01\na_02\na_03\na_04\na_05\na_02\n')
    with pytest.raises(DatasetError) as caught:
        load(voc)
    message = str(caught.value)
    assert '7 problem(s)' in message
    expected = {
        'duplicate id': 1, 'missing image': 1, 'missing mask': 2, 'mask size': 1, 'unreadable image': 1,
        'label outside of the class list': 1,
    }  # fmt: skip
    for kind, count in expected.items():
        assert f'{kind}: {count}' in message
    assert len(message.splitlines()) == 6
    assert 'mask is 24x17, image is 24x16' in message
    assert message.startswith('WeakVOCDataset (')
    assert 'split.txt' in message.splitlines()[0]


def test_values_outside_of_the_class_list_name_value_and_range(voc):
    save_pair(voc, 'a_01', [8, 33])
    with pytest.raises(DatasetError, match=r'holds 33, expected 0\.\.20 or 255'):
        load(voc)
    assert load(voc, check='header', label_source=None)[0]['img_id'] == 'a_01'


@pytest.mark.parametrize('check', ['full', 'header', 'none'])
def test_truncated_image_needs_the_full_check(voc, check):
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)).save(buffer, 'JPEG')
    (voc / 'JPEGImages' / 'a_01.jpg').write_bytes(buffer.getvalue()[:-2000])
    Image.new('L', (300, 200)).save(voc / 'SegmentationClass' / 'a_01.png')
    if check == 'full':
        assert kinds_of(voc, check=check) == ['unreadable image']
    else:
        assert len(load(voc, check=check)) == 4


def test_check_none_opens_no_file(voc):
    (voc / 'JPEGImages' / 'a_01.jpg').unlink()
    (voc / 'SegmentationClass' / 'a_02.png').unlink()
    assert len(load(voc, check='none', label_source={'type': 'FileLabels', 'path': 'names.json'})) == 4
    assert kinds_of(voc, check='none') == ['missing mask']
    assert kinds_of(voc, check='header') == ['missing image', 'missing mask']


def test_colour_mask_is_unreadable(voc):
    Image.new('RGB', (24, 16)).save(voc / 'SegmentationClass' / 'a_01.png')
    with pytest.raises(DatasetError, match=r'unreadable mask.*got mode RGB'):
        load(voc)


def test_exif_rotation_is_part_of_the_image_size(voc):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (16, 24)).save(voc / 'JPEGImages' / 'a_01.jpg', exif=exif)
    assert load(voc, pipeline=[{'type': 'LoadImageFromFile'}])[0]['img'].shape[:2] == (16, 24)


def test_empty_and_missing_split(voc):
    (voc / 'empty.txt').write_text('\n')
    assert kinds_of(voc, ann_file='empty.txt') == ['empty split']
    with pytest.raises(DatasetError, match='the split list does not exist'):
        load(voc, ann_file='none.txt')
    with pytest.raises(DatasetError, match='the folder of images does not exist'):
        load(voc, ann_file='', data_prefix={'img_path': 'none'})


def test_indices_limit_what_is_checked(voc):
    (voc / 'JPEGImages' / 'a_04.jpg').unlink()
    assert len(load(voc, indices=3)) == 3


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'check': 'fast'}, 'check must be one of'),
        ({'reduce_zero_label': True}, 'reduce_zero_label'),
        ({'metainfo': {'classes': ('cat', 'dog')}}, "classes=\\('background', ...\\)"),
        ({'data_prefix': {'seg_map_path': None}}, 'label_source MaskLabels needs masks'),
        (
            {
                'data_prefix': {'seg_map_path': None}, 'label_source': None,
                'pipeline': [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}],
            },
            r'pipeline\[1\] LoadAnnotations loads masks',
        ),
        (
            {
                'data_prefix': {'seg_map_path': None}, 'label_source': None,
                'pipeline': [{'type': 'RandomApply', 'transforms': [{'type': 'LoadAnnotations'}]}],
            },
            r'pipeline\[0\].*LoadAnnotations loads masks',
        ),
    ],
)  # fmt: skip
def test_contradicting_configuration(voc, kwargs, message):
    with pytest.raises(ValueError, match=message):
        load(voc, lazy_init=True, **kwargs)


def test_none_from_the_pipeline_is_an_error_not_another_item(voc):
    dataset = load(voc, pipeline=[lambda results: None])
    with pytest.raises(DatasetError, match=r'returned None for item 2, .*a_03.jpg'):
        dataset[2]


def test_draw_seeds_an_item_alone(voc):
    dataset = load(voc, pipeline=[random_numbers])
    forward = [dataset[SampleDraw(i % 4, (5, i))] for i in range(8)]
    backward = [dataset[SampleDraw(i % 4, (5, i))] for i in reversed(range(8))]
    assert forward == backward[::-1]
    assert len({tuple(row[1:]) for row in forward}) == 8
    assert dataset[SampleDraw(0, (6, 0))][1:] != forward[0][1:]


def test_plain_index_uses_the_global_generators(voc):
    dataset = load(voc, pipeline=[random_numbers])
    random.seed(3)
    expected = random.random()
    random.seed(3)
    assert dataset[0][1] == expected


def test_draws_are_independent_of_workers_and_wrappers(voc):
    dataset = load(voc, pipeline=[random_numbers])
    order = [SampleDraw(i % 4, (1, i)) for i in range(8)]
    batches = [order[:3], order[3:6], order[6:]]
    rows = {
        workers: list(DataLoader(dataset, batch_sampler=batches, num_workers=workers, collate_fn=list))
        for workers in (0, 2)
    }
    assert rows[0] == rows[2]
    assert RepeatDataset(dataset, 2)[SampleDraw(5, (1, 5))] == rows[0][1][2]
    assert ConcatDataset([dataset, dataset])[SampleDraw(5, (1, 5))] == rows[0][1][2]


def test_progress_only_for_many_items(capsys):
    assert map_threads(abs, [-1, 2], 'few') == [1, 2]
    assert capsys.readouterr().err == ''
    numbers = list(range(PROGRESS_FROM + 1))
    assert map_threads(abs, numbers, 'many') == numbers
    err = capsys.readouterr().err
    assert 'many' in err
    assert 'ETA' in err
    assert f'{len(numbers)}/{len(numbers)}' in err


def test_error_shows_every_kind_before_repeating_one():
    problems = [Problem('x', f'x{i}', 'bad') for i in range(9)] + [Problem('y', 'y0', 'bad')]
    with pytest.raises(DatasetError) as caught:
        raise_problems(problems, 'here')
    lines = str(caught.value).splitlines()
    assert lines[0] == 'here: 10 problem(s) found before training (x: 9, y: 1); the first 5:'
    assert [line.split(':')[1].strip() for line in lines[1:]] == ['x0', 'y0', 'x1', 'x2', 'x3']
    raise_problems([], 'here')
