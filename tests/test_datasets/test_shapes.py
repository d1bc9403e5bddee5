import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mmwsss  # noqa: F401  (closes version gaps before mmseg is imported)
from mmwsss.datasets import shapes

CLI = Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'shapes.py'
NUM_CLASSES = len(shapes.CLASSES)
COUNTS = {'train': 120, 'val': 30}


def load_cli():
    spec = importlib.util.spec_from_file_location('shapes_converter', CLI)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cli = load_cli()


def digests(root):
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob('*') if p.is_file()
    }


def small(out, **changes):
    return cli.generate(out, **{'train': 6, 'val': 3, 'close_ups': 8, 'size': 64, 'progress': False, **changes})


def masks_of(root, split):
    names = (root / 'ImageSets' / 'Segmentation' / f'{split}.txt').read_text().split()
    return {name: np.asarray(Image.open(root / 'SegmentationClass' / f'{name}.png')) for name in names}


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp('generated') / 'shapes'
    assert cli.generate(root, **COUNTS, progress=False)
    return root


def test_metainfo_lists_agree():
    assert shapes.CLASSES[0] == 'background'
    assert len(shapes.PALETTE) == NUM_CLASSES >= 6
    assert len({tuple(colour) for colour in shapes.PALETTE}) == NUM_CLASSES


@pytest.mark.parametrize('split', ['train', 'val'])
def test_layout_reads_back(dataset, split):
    masks = masks_of(dataset, split)
    assert len(masks) == COUNTS[split]
    for name, mask in masks.items():
        picture = Image.open(dataset / 'SegmentationClass' / f'{name}.png')
        image = Image.open(dataset / 'JPEGImages' / f'{name}.jpg')
        assert (picture.mode, image.mode, image.format) == ('P', 'RGB', 'JPEG')
        assert picture.size == image.size
        assert max(image.size) == 144
        assert picture.getpalette()[: 3 * NUM_CLASSES] == np.ravel(shapes.PALETTE).tolist()
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) <= set(range(NUM_CLASSES))
        assert 1 <= len(np.unique(mask)) - 1 <= 4
    assert len(list((dataset / 'JPEGImages').iterdir())) == sum(COUNTS.values())


def test_mmseg_dataset_reads_it(dataset):
    from mmseg.datasets import BaseSegDataset

    read = BaseSegDataset(
        ann_file='ImageSets/Segmentation/val.txt',
        data_root=str(dataset),
        data_prefix={'img_path': 'JPEGImages', 'seg_map_path': 'SegmentationClass'},
        metainfo={'classes': shapes.CLASSES, 'palette': shapes.PALETTE},
        pipeline=[{'type': 'mmseg.LoadImageFromFile'}, {'type': 'mmseg.LoadAnnotations'}],
    )
    assert len(read) == COUNTS['val']
    for item, mask in zip(read, masks_of(dataset, 'val').values()):
        np.testing.assert_array_equal(item['gt_seg_map'], mask)
        assert item['img'].shape == (*mask.shape, 3)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_every_class_present_and_pair_occurs_together(dataset, split):
    present = np.array([[np.any(mask == k) for k in range(NUM_CLASSES)] for mask in masks_of(dataset, split).values()])
    assert (present.sum(0)[1:] >= len(present) / 8).all()
    first, second = (present[:, label] for label in shapes.PAIR)
    for one in (first, second):
        assert (first & second).sum() / one.sum() >= 0.6
        assert (first & second).sum() < one.sum()
    for label in set(range(1, NUM_CLASSES)) - set(shapes.PAIR):
        assert (present[:, label] & first).sum() / present[:, label].sum() < 0.4


def test_mean_colour_does_not_tell_the_class(dataset):
    # Between-class share of the variance of the mean object colour: 1 when colour decides, about K / N by chance.
    colours, labels = [], []
    for name, mask in masks_of(dataset, 'train').items():
        image = np.asarray(Image.open(dataset / 'JPEGImages' / f'{name}.jpg'), float)
        for label in np.unique(mask):
            colours.append(image[mask == label].mean(0))
            labels.append(label)
    colours, labels = np.array(colours), np.array(labels)
    centred = colours - colours.mean(0)
    between = sum((labels == k).sum() * (centred[labels == k].mean(0) ** 2).sum() for k in range(NUM_CLASSES))
    assert between / (centred**2).sum() < 0.1


def test_background_share_and_visible_objects(dataset):
    masks = list(masks_of(dataset, 'train').values())
    assert 0.6 <= np.mean([np.mean(mask == 0) for mask in masks]) <= 0.78
    for mask in masks:
        assert np.bincount(mask.ravel())[np.unique(mask)].min() >= 80


def test_texture_inside_an_object_is_stronger_than_flat_light():
    for label in range(1, NUM_CLASSES):
        rng = np.random.default_rng(label)
        item = shapes.Placement(label, 48, 48, 26, 1.0, 0.3)
        patch = shapes.paint_object(item, (96, 96), rng)[40:56, 40:56]
        assert patch.std((0, 1)).max() > 15


@pytest.mark.parametrize('label', range(1, NUM_CLASSES))
def test_coverage_has_the_area_of_the_outline(label):
    item = shapes.Placement(label, 50.3, 47.6, 25.0, 0.9, 0.7)
    cover = shapes.coverage(item, (96, 96))
    assert cover.sum() == pytest.approx(shapes.full_area(item), rel=0.04)
    assert cover.min() == 0
    assert cover.max() == 1


def test_sample_depends_on_seed_split_and_index_only():
    image, mask = shapes.make_sample(3, 'train', 7, 64)
    again, mask_again = shapes.make_sample(3, 'train', 7, 64)
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(mask, mask_again)
    for other in ((4, 'train', 7), (3, 'val', 7), (3, 'train', 13)):
        different, _ = shapes.make_sample(*other, 64)
        assert different.shape != image.shape or (different != image).mean() > 0.5


@pytest.mark.parametrize('size', [48, 101, 192])
def test_longer_side_is_the_size(size):
    for index in range(6):
        image, mask = shapes.make_sample(0, 'train', index, size)
        assert image.shape == (*mask.shape, 3)
        assert max(mask.shape) == size


def test_ignore_border_surrounds_labels():
    _, plain = shapes.make_sample(0, 'val', 1, 64)
    _, banded = shapes.make_sample(0, 'val', 1, 64, ignore_border=1)
    ignored = banded == shapes.IGNORE_INDEX
    np.testing.assert_array_equal(banded[~ignored], plain[~ignored])
    edge = plain[:, 1:] != plain[:, :-1]
    assert edge.any()
    assert ignored[:, 1:][edge].all()
    assert ignored[:, :-1][edge].all()
    assert not ignored[5:-5, 5:-5].all()
    np.testing.assert_array_equal(shapes.with_ignore_border(np.zeros((8, 8), np.uint8), 2), 0)


def test_same_files_for_same_seed_and_any_jobs(tmp_path):
    small(tmp_path / 'one')
    env = {**os.environ, 'PYTHONPATH': str(CLI.parents[2]), 'OMP_NUM_THREADS': '1'}
    options = ['--train=6', '--val=3', '--close-ups=8', '--size=64', '--jobs=2', '--quiet']
    command = [sys.executable, str(CLI), *options]
    done = subprocess.run(
        [*command, '--out', str(tmp_path / 'two')], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert '6 train and 3 val images, 8 close-ups written' in done.stdout
    small(tmp_path / 'other', seed=1)
    one, two, other = (digests(tmp_path / name) for name in ('one', 'two', 'other'))
    assert one == two
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one if name.endswith('.jpg'))


def test_close_ups_are_labelled_pictures_of_one_class(tmp_path):
    small(tmp_path / 'set')
    labels = json.loads((tmp_path / 'set' / cli.CLOSE_UP_LABELS).read_text())
    assert list(labels) == sorted(path.stem for path in (tmp_path / 'set' / cli.CLOSE_UPS).iterdir())
    assert list(labels.values()) == [[], *([name] for name in shapes.CLASSES[1:]), []]
    image, label = shapes.make_close_up(0, 3, 32)
    assert image.shape == (32, 32, 3)
    assert image.dtype == np.uint8
    assert label == 3
    assert (image != shapes.make_close_up(0, 10, 32)[0]).any()
    np.testing.assert_array_equal(image, shapes.make_close_up(0, 3, 32)[0])


def test_more_images_keep_the_first_ones(tmp_path):
    small(tmp_path / 'few')
    small(tmp_path / 'more', train=8)
    few, more = digests(tmp_path / 'few'), digests(tmp_path / 'more')
    pictures = [name for name in few if name.endswith(('.jpg', '.png'))]
    assert len(pictures) == 18 + 8
    assert all(few[name] == more[name] for name in pictures)


def test_finished_set_is_recognised_and_other_arguments_are_refused(tmp_path):
    out = tmp_path / 'set'
    assert small(out) is True
    before = {path: path.stat().st_mtime_ns for path in out.rglob('*')}
    assert small(out) is False
    assert {path: path.stat().st_mtime_ns for path in out.rglob('*')} == before
    with pytest.raises(FileExistsError, match=r'train 6 \(asked for 7\).*--overwrite'):
        small(out, train=7)
    assert small(out, train=7, overwrite=True) is True
    assert json.loads((out / cli.STAMP).read_text())['train'] == 7
    next((out / 'JPEGImages').iterdir()).unlink()
    with pytest.raises(FileExistsError, match='JPEGImages has 9 files, expected 10'):
        small(out, train=7)


def test_foreign_folder_is_not_touched(tmp_path):
    (tmp_path / 'set').mkdir()
    (tmp_path / 'set' / 'mine.txt').write_text('keep')
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match=r'without a readable shapes\.json'):
            small(tmp_path / 'set', overwrite=overwrite)
    (tmp_path / 'set' / cli.STAMP).write_text('{"dataset": "other"}')
    with pytest.raises(FileExistsError, match='dataset other'):
        small(tmp_path / 'set', overwrite=True)
    assert (tmp_path / 'set' / 'mine.txt').read_text() == 'keep'


def test_interrupted_run_leaves_nothing_and_can_be_repeated(tmp_path, monkeypatch):
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return shapes.make_sample(*args)

    monkeypatch.setattr(cli, 'make_sample', interrupted)
    with pytest.raises(KeyboardInterrupt):
        small(tmp_path / 'set')
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert small(tmp_path / 'set') is True


@pytest.mark.parametrize(
    ('name', 'value'),
    [('train', 0), ('val', 0), ('close-ups', -1), ('size', 47), ('seed', -1), ('ignore-border', -1), ('jobs', 0)],
)
def test_bad_arguments_end_with_one_line(tmp_path, capsys, name, value):
    with pytest.raises(SystemExit) as stopped:
        cli.main(['--out', str(tmp_path / 'set'), f'--{name}={value}'])
    assert stopped.value.code == 2
    assert f'{name.replace("-", "_")} is {value}, expected an integer >= ' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
