import json

import numpy as np
import pytest
from mini_voc import write_xml

from mmwsss.datasets import DatasetError, FileLabels, MaskLabels, WeakCOCODataset, WeakVOCDataset
from mmwsss.datasets.image_labels import ClassTable, build_label_source
from mmwsss.datasets.label_files import split_names

SOURCES = {
    'mask': 'mask',
    'xml': {'type': 'VOCXMLLabels', 'xml_dir': 'Annotations'},
    'npy': {'type': 'FileLabels', 'path': 'labels.npy'},
    'npy_numbers_with_background': {'type': 'FileLabels', 'path': 'numbers.npy'},
    'json_names': {'type': 'FileLabels', 'path': 'names.json'},
    'json_vectors': {'type': 'FileLabels', 'path': 'vectors.json'},
    'csv': {'type': 'FileLabels', 'path': 'labels.csv'},
    'txt': {'type': 'FileLabels', 'path': 'labels.txt'},
    'coco': {'type': 'COCOInstanceLabels', 'ann_file': 'instances.json'},
}
EXPECTED = [[8], [12, 15], [], [8, 12, 20]]


def indices_of(matrix):
    return [(np.flatnonzero(row) + 1).tolist() for row in matrix]


def load(voc, source, **kwargs):
    return WeakVOCDataset('split.txt', data_root=str(voc), label_source=source, **kwargs)


def problems_of(voc, source, **kwargs):
    with pytest.raises(DatasetError) as caught:
        load(voc, source, **kwargs)
    return caught.value.problems


@pytest.mark.parametrize('name', SOURCES)
def test_sources_agree(voc, name):
    matrix = load(voc, SOURCES[name]).image_label_matrix()
    assert matrix.dtype == np.float32
    assert matrix.shape == (4, 20)
    assert indices_of(matrix) == EXPECTED


@pytest.mark.parametrize('name', SOURCES)
def test_sources_agree_on_a_subset_of_the_classes(voc, name):
    ignore = 255 if name == 'mask' else 254
    classes = ('background', 'dog', 'cat')
    dataset = load(voc, SOURCES[name], metainfo={'classes': classes}, ignore_index=ignore, check='header')
    assert indices_of(dataset.image_label_matrix()) == [[2], [1], [], [1, 2]]
    assert dataset.metainfo['label_map'][15] == ignore
    assert dataset.label_map[12] == 1


def test_difficult_objects(voc):
    write_xml(voc, 'a_03', ['cow', 'sheep'], difficult=('cow',))
    source = {'type': 'VOCXMLLabels', 'xml_dir': 'Annotations'}
    assert indices_of(load(voc, source).image_label_matrix())[2] == [10, 17]
    source['use_difficult'] = False
    assert indices_of(load(voc, source).image_label_matrix())[2] == [17]


def test_unknown_classes_and_missing_ids_are_collected(voc):
    (voc / 'labels.csv').write_text('a_01,cat zebra\na_02,dog person\na_04,unicorn\n')
    problems = problems_of(voc, SOURCES['csv'])
    kinds = [(problem.kind, problem.item) for problem in problems]
    assert kinds == [('unknown class', 'a_01'), ('missing label', 'a_03'), ('unknown class', 'a_04')]
    assert '"zebra"' in problems[0].detail


def test_bad_vectors_are_collected(voc):
    vectors = {'a_01': [0] * 19, 'a_02': [0] * 19 + [2], 'a_03': [0] * 20, 'a_04': ['cat', 3]}
    (voc / 'vectors.json').write_text(json.dumps(vectors))
    problems = problems_of(voc, SOURCES['json_vectors'])
    assert [problem.item for problem in problems] == ['a_01', 'a_02', 'a_04']
    assert 'length 20 or 21' in problems[0].detail
    assert 'holds 2, expected only 0 and 1' in problems[1].detail


def test_missing_and_broken_xml(voc):
    (voc / 'Annotations' / 'a_01.xml').unlink()
    (voc / 'Annotations' / 'a_02.xml').write_text('<annotation>')
    problems = problems_of(voc, SOURCES['xml'])
    assert [problem.kind for problem in problems] == ['missing label', 'unreadable label']


def test_image_missing_in_coco_file(voc):
    content = json.loads((voc / 'instances.json').read_text())
    content['images'][2]['file_name'] = 'other.jpg'
    (voc / 'instances.json').write_text(json.dumps(content))
    assert [(p.kind, p.item) for p in problems_of(voc, SOURCES['coco'])] == [('missing label', 'a_03')]


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ({'type': 'FileLabels', 'path': 'none.json'}, 'none.json does not exist'),
        ({'type': 'FileLabels', 'path': 'list.json'}, 'expected a dict'),
        ({'type': 'FileLabels', 'path': 'broken.json'}, 'not valid JSON'),
        ({'type': 'COCOInstanceLabels', 'ann_file': 'names.json'}, 'not a COCO instances file'),
        ({'type': 'VOCXMLLabels', 'xml_dir': 'none'}, 'does not exist'),
    ],
)
def test_unusable_files(voc, source, message):
    (voc / 'list.json').write_text('[]')
    (voc / 'broken.json').write_text('{')
    with pytest.raises(DatasetError, match=message):
        load(voc, source)


def test_an_entry_serves_one_image_only(voc):
    (voc / 'JPEGImages' / 'b_01.jpg').write_bytes((voc / 'JPEGImages' / 'a_01.jpg').read_bytes())
    (voc / 'SegmentationClass' / 'b_01.png').write_bytes((voc / 'SegmentationClass' / 'a_01.png').read_bytes())
    (voc / 'split.txt').write_text('a_01\nb_01\n')
    assert [(p.kind, p.item) for p in problems_of(voc, SOURCES['npy_numbers_with_background'])] == [
        ('ambiguous label id', 'b_01')
    ]
    (voc / 'labels.csv').write_text('a_01,cat\n1,dog\n')
    assert [(p.kind, p.item) for p in problems_of(voc, SOURCES['csv'])] == [('missing label', 'b_01')]


def test_names_with_spaces():
    classes = WeakCOCODataset.METAINFO['classes']
    assert split_names('person traffic light,hot dog zebra', classes) == ['person', 'traffic light', 'hot dog', 'zebra']
    assert split_names('traffic lamp', classes) == ['traffic', 'lamp']
    assert len(classes) == len(set(classes)) == 81


def test_mask_labels_read_masks_themselves(voc):
    table = ClassTable(('background', 'thing'), 2, None, 255)
    info = {'img_id': 'a_01', 'img_path': '', 'seg_map_path': str(voc / 'SegmentationClass' / 'a_01.png')}
    labels, problems = MaskLabels()([info], table)
    assert labels.tolist() == [[0]]
    assert [problem.kind for problem in problems] == ['label outside of the class list']


def test_build_label_source():
    assert build_label_source(None) is None
    assert isinstance(build_label_source('mask'), MaskLabels)
    with pytest.raises(ValueError, match="'xml' is unknown"):
        build_label_source('xml')
    with pytest.raises(ValueError, match=r'no \.npy'):
        FileLabels('labels.pkl')
