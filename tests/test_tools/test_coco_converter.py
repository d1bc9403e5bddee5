"""Masks, labels, lists and checksums of COCO, from a generated instances file."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmwsss.apis import load_config
from mmwsss.datasets import DatasetError, WeakCOCODataset
from mmwsss.datasets.coco import CLASSES
from mmwsss.registry import DATASETS

pytest.importorskip('pycocotools')
from mmwsss.datasets.coco_masks import MaskRules, class_mask, read_instances

FOLDER = Path(__file__).parents[2] / 'tools' / 'dataset_converters'
UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}  # ids that COCO skips
IDS = [number for number in range(1, 91) if number not in UNUSED]
SIZE = (30, 40)  # height, width
PERSON, DOG, BRUSH = 1, 18, 90
PLACE = {PERSON: 1, DOG: 17, BRUSH: 80}
BOXES = {'large': (0, 0, 20, 30), 'right': (10, 5, 40, 15), 'inner': (12, 8, 16, 12)}  # left, top, right, bottom


def polygon(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def run_lengths(mask: np.ndarray) -> dict:
    """Uncompressed, column by column, zeros first."""
    flat = mask.ravel(order='F').astype(int)
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes, flat.size]).tolist()
    return dict(counts=[0, *counts] if flat[0] else counts, size=list(mask.shape))


def region(name: str) -> tuple[slice, slice]:
    left, top, right, bottom = BOXES[name]
    return slice(top, bottom), slice(left, right)


def box_area(name: str) -> int:
    left, top, right, bottom = BOXES[name]
    return (right - left) * (bottom - top)


@pytest.fixture
def content() -> dict:
    """Objects that overlap, a crowd, an image with a crowd only, one without anything, one of large size."""
    crowd = np.zeros(SIZE, dtype=bool)
    crowd[20:, 10:35] = True
    annotations = [
        dict(image_id=7, category_id=DOG, iscrowd=0, segmentation=polygon(*BOXES['inner']), area=box_area('inner')),
        dict(image_id=7, category_id=PERSON, iscrowd=0, segmentation=polygon(*BOXES['large']), area=box_area('large')),
        dict(image_id=7, category_id=PERSON, iscrowd=1, segmentation=run_lengths(crowd), area=int(crowd.sum())),
        dict(image_id=7, category_id=BRUSH, iscrowd=0, segmentation=polygon(*BOXES['right']), area=box_area('right')),
        dict(image_id=3, category_id=DOG, iscrowd=1, segmentation=run_lengths(crowd), area=int(crowd.sum())),
        dict(image_id=5, category_id=BRUSH, iscrowd=0, segmentation=polygon(250, 250, 256, 300), area=300),
    ]
    sizes = {7: ('Straße_日本', SIZE), 3: ('b', SIZE), 4: ('empty', (300, 300)), 5: ('a', (300, 256))}
    return dict(
        images=[
            dict(id=number, file_name=f'{name}.jpg', height=size[0], width=size[1])
            for number, (name, size) in sizes.items()
        ],
        annotations=[dict(annotation, id=index) for index, annotation in enumerate(annotations, start=100)],
        categories=[dict(id=number, name=name) for number, name in zip(IDS, CLASSES[1:])][::-1],
    )


@pytest.fixture
def source(content: dict, tmp_path: Path) -> Path:
    path = tmp_path / 'annotations' / 'instances_train2014.json'
    path.parent.mkdir()
    path.write_text(json.dumps(content, ensure_ascii=False), encoding='utf-8')
    return path


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module('coco2014')


@pytest.fixture
def error(tool):
    return importlib.import_module('voc_common').ConversionError


def painted(*layers: tuple[str | tuple[slice, slice], int]) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=np.uint8)
    for where, value in layers:
        mask[region(where) if isinstance(where, str) else where] = value
    return mask


CROWD = slice(20, None), slice(10, 35)
LAYERS = dict(inner=PLACE[DOG], large=PLACE[PERSON], right=PLACE[BRUSH])


@pytest.mark.parametrize(
    ('rules', 'layers'),
    [
        (dict(), ['inner', 'large', (CROWD, 1), 'right']),
        (dict(overlap='first'), ['right', (CROWD, 1), 'large', 'inner']),
        (dict(overlap='smaller'), ['large', 'right', (CROWD, 1), 'inner']),
        (dict(crowd='ignore'), [(CROWD, 255), 'inner', 'large', 'right']),
        (dict(crowd='ignore', overlap='first'), [(CROWD, 255), 'right', 'large', 'inner']),
        (dict(crowd='skip', overlap='smaller'), ['large', 'right', 'inner']),
    ],
)
def test_rules(source: Path, rules: dict, layers: list) -> None:
    rules = MaskRules(**rules)
    file = read_instances(source)
    (image,) = [image for image in file.images if image.annotations and image.name.startswith('S')]
    expected = painted(*((layer, LAYERS[layer]) if isinstance(layer, str) else layer for layer in layers))
    np.testing.assert_array_equal(class_mask(image, file.values(rules), rules), expected)


def test_raw_ids(source: Path) -> None:
    rules = MaskRules(ids='raw')
    file = read_instances(source)
    values = {int(value) for image in file.images for value in np.unique(class_mask(image, file.values(rules), rules))}
    assert values == {0, PERSON, DOG, BRUSH}


def test_a_line_has_no_pixels(content: dict, source: Path) -> None:
    """Two corners are no box, and do not make boxes of the polygons behind them."""
    line = [3, 4, 20, 10]
    content['annotations'][0]['segmentation'] = [line]
    content['annotations'][1]['segmentation'] = [line, *polygon(*BOXES['large'])]
    source.write_text(json.dumps(content, ensure_ascii=False), encoding='utf-8')
    found = read_instances(source)
    (image,) = [image for image in found.images if len(image.annotations) > 1]
    mask = class_mask(image, found.places, MaskRules(overlap='first', crowd='skip'))
    np.testing.assert_array_equal(mask, painted(('right', PLACE[BRUSH]), ('large', PLACE[PERSON])))


def test_compressed_run_lengths(content: dict, source: Path) -> None:
    from pycocotools import mask as rle

    compressed = rle.encode(np.asfortranarray(painted(('right', 1))))
    content['annotations'][0]['segmentation'] = dict(compressed, counts=compressed['counts'].decode())
    source.write_text(json.dumps(content), encoding='utf-8')
    file = read_instances(source)
    (image,) = [image for image in file.images if image.name.startswith('S')]
    mask = class_mask(image, file.values(MaskRules()), MaskRules(overlap='first'))
    np.testing.assert_array_equal(mask == PLACE[DOG], painted(('right', 1)).astype(bool))


def test_what_is_written_is_what_the_dataset_reads(tool, source: Path, tmp_path: Path) -> None:
    out = tmp_path / 'coco'
    report = tool.convert(source, out, MaskRules(), workers=1, allow_other_counts=True)
    assert report[:3] == [
        'train2014:      4 images, expected 82783',
        'train2014:      3 with an object, expected 82081',
        'train2014:      1 of those large, expected 81477',
    ]
    (out / 'train2014').mkdir()
    for path in (out / 'SegmentationClass' / 'train2014').iterdir():
        Image.new('RGB', Image.open(path).size).save(out / 'train2014' / f'{path.stem}.jpg')
    kwargs = dict(data_root=str(out), pipeline=[])
    dataset = WeakCOCODataset('ImageSets/train2014.txt', label_source='mask', **kwargs)
    assert [dataset.get_data_info(i)['img_id'] for i in range(3)] == ['Straße_日本', 'a', 'b']
    present = [(1 + np.flatnonzero(row)).tolist() for row in dataset.image_label_matrix()]
    assert present == [[1, 80], [80], [17]], 'the person covers the dog'
    labels = dict(type='FileLabels', path='ImageLabels/train2014.json')
    every = WeakCOCODataset('', label_source=labels, **kwargs)
    found = {every.get_data_info(i)['img_id']: every.get_data_info(i)['image_labels'] for i in range(len(every))}
    assert {name: (1 + np.flatnonzero(row)).tolist() for name, row in found.items()} == {
        'Straße_日本': [1, 17, 80], 'a': [80], 'b': [17], 'empty': [],
    }  # fmt: skip
    assert (out / 'ImageSets' / 'train2014_vitpcm.txt').read_text() == 'a\n'
    palette = Image.open(out / 'SegmentationClass' / 'train2014' / 'a.png').getpalette()
    assert palette[: 3 * len(CLASSES)] == np.ravel(WeakCOCODataset.METAINFO['palette']).tolist()


@pytest.mark.parametrize('loader', ['train_dataloader', 'val_dataloader'])
def test_configs_read_what_is_written(tool, source: Path, tmp_path: Path, loader: str) -> None:
    split = f'{loader.split("_")[0]}2014'
    source = source.rename(source.with_name(f'instances_{split}.json'))
    out = tmp_path / 'coco'
    tool.convert(source, out, MaskRules(), workers=1, allow_other_counts=True)
    (out / split).mkdir()
    for path in (out / 'SegmentationClass' / split).iterdir():
        Image.new('RGB', Image.open(path).size).save(out / split / f'{path.stem}.jpg')
    dataset = DATASETS.build(load_config('vitpcm_coco')[loader].dataset | dict(data_root=str(out)))
    found = {dataset.get_data_info(i)['img_id']: dataset.get_data_info(i)['image_labels'] for i in range(len(dataset))}
    assert {name: (1 + np.flatnonzero(row)).tolist() for name, row in found.items()} == {
        'Straße_日本': [1, 17, 80], 'a': [80], 'b': [17],
    }  # fmt: skip
    assert {sample['data_samples'].img_id for sample in map(dataset.__getitem__, range(3))} == set(found)


def manifest(out: Path) -> dict:
    return json.loads((out / 'SegmentationClass' / 'train2014.json').read_text())


def test_checksums_depend_on_masks_alone(tool, source: Path, tmp_path: Path) -> None:
    for name, workers in (('one', 1), ('two', 2)):
        tool.convert(source, tmp_path / name, MaskRules(), workers=workers, allow_other_counts=True)
    assert manifest(tmp_path / 'one') == manifest(tmp_path / 'two')
    assert manifest(tmp_path / 'one')['source_sha256'] == hashlib.sha256(source.read_bytes()).hexdigest()
    tool.convert(source, tmp_path / 'other', MaskRules(overlap='first'), workers=1, allow_other_counts=True)
    assert manifest(tmp_path / 'other')['sha256'] != manifest(tmp_path / 'one')['sha256']
    path = tmp_path / 'one' / 'SegmentationClass' / 'train2014' / 'a.png'
    Image.open(path).save(path, compress_level=0)
    assert tool.verify(source, tmp_path / 'one') == ['train2014: 4 masks are as they were written']


def test_an_interrupted_conversion_goes_on(tool, source: Path, tmp_path: Path, monkeypatch) -> None:
    def convert():
        return tool.convert(source, tmp_path, MaskRules(), workers=1, allow_other_counts=True)

    whole = convert()[-1]
    folder = tmp_path / 'SegmentationClass' / 'train2014'
    (folder / 'b.png').write_bytes((folder / 'b.png').read_bytes()[:40])
    (folder / 'empty.png').unlink()
    drawn = []
    original = tool.class_mask
    monkeypatch.setattr(tool, 'class_mask', lambda image, *args: drawn.append(image.name) or original(image, *args))
    assert convert()[-1] == whole
    assert drawn == ['b', 'empty']
    assert not list(tmp_path.rglob('*.partial'))


def test_masks_of_other_rules_are_kept_apart(tool, error, source: Path, tmp_path: Path) -> None:
    def convert(overlap: str, **kwargs):
        return tool.convert(source, tmp_path, MaskRules(overlap=overlap), 1, allow_other_counts=True, **kwargs)

    convert('later')
    with pytest.raises(error, match=r'holds masks of overlap later, asked for .*choose another --out or pass'):
        convert('first')
    convert('first', overwrite=True)
    assert manifest(tmp_path)['overlap'] == 'first'
    (tmp_path / 'SegmentationClass' / 'train2014.json').unlink()
    with pytest.raises(error, match=r'holds masks, but .*train2014\.json does not say which'):
        convert('first')


def test_changed_masks_are_found(tool, error, source: Path, tmp_path: Path) -> None:
    with pytest.raises(error, match='was not converted to its end'):
        tool.verify(source, tmp_path)
    tool.convert(source, tmp_path, MaskRules(), workers=1, allow_other_counts=True)
    folder = tmp_path / 'SegmentationClass' / 'train2014'
    Image.fromarray(np.zeros((300, 256), dtype=np.uint8)).save(folder / 'a.png')
    (folder / 'b.png').unlink()
    with pytest.raises(error, match='2 of 4 masks are missing or differ: a, b'):
        tool.verify(source, tmp_path)


def test_other_files_need_a_flag(tool, error, source: Path, tmp_path: Path) -> None:
    with pytest.raises(error, match=r'not the official file.*\s+train2014:      4 images, expected 82783'):
        tool.convert(source, tmp_path / 'out', MaskRules(), workers=1)
    with pytest.raises(error, match=r'train2017 is none of train2014, val2014'):
        tool.convert(source.rename(source.with_name('instances_train2017.json')), tmp_path / 'out', MaskRules(), 1)
    with pytest.raises(error, match='expected a file named instances_SPLIT'):
        tool.convert(tmp_path / 'captions.json', tmp_path / 'out', MaskRules(), 1)
    assert not (tmp_path / 'out').exists()


def other_names(content: dict) -> None:
    content['categories'][0]['name'] = 'brush'


def strange_category(content: dict) -> None:
    content['annotations'][0]['category_id'] = 12


def strange_image(content: dict) -> None:
    content['annotations'][0]['image_id'] = 1


def same_names(content: dict) -> None:
    content['images'][1]['file_name'] = 'x/a.png'


def no_area(content: dict) -> None:
    del content['annotations'][2]['area']


def no_images(content: dict) -> None:
    del content['images']


@pytest.mark.parametrize(
    ('mistake', 'message'),
    [
        (other_names, 'categories are not the 80 of COCO'),
        (strange_category, 'annotation 100 is of category 12, not listed'),
        (strange_image, 'annotation 100 is of image 1, which is not listed'),
        (same_names, r'several images are named a \(1 names\)'),
        (no_images, "not a COCO instances file, KeyError\\('images'\\)"),
        (no_area, 'annotation 102 has no area'),
    ],
)
def test_files_that_are_not_of_coco(content: dict, source: Path, mistake, message: str) -> None:
    mistake(content)
    source.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=message):
        read_instances(source)


@pytest.mark.parametrize(
    ('segmentation', 'message'),
    [
        ([[1, 2]], 'annotation 105 cannot be drawn'),
        ([], 'annotation 105 cannot be drawn'),
        (dict(counts=[4], size=[2, 2]), 'annotation 105 is for 2 x 2 pixels, the image has 256 x 300'),
        (None, 'annotation 105 cannot be drawn'),
    ],
)
def test_annotations_that_cannot_be_drawn(
    tool, run_main, content: dict, source: Path, tmp_path: Path, capsys, segmentation, message: str
) -> None:
    content['annotations'][-1]['segmentation'] = segmentation
    source.write_text(json.dumps(content))
    assert run_main(tool, source, '--out', tmp_path / 'out', '--workers', 1, '--allow-other-counts') == 2
    error = capsys.readouterr().err
    assert error.startswith('error: 4 masks of train2014: 1 failed, the first:')
    assert message in error
    assert manifest(tmp_path / 'out')['complete'] is False


def test_unknown_rules() -> None:
    with pytest.raises(ValueError, match="overlap has to be one of later, first, smaller, got 'last'"):
        MaskRules(overlap='last')
