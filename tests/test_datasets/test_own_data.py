"""Images and tags of your own: what is recognised, what becomes of it, and what the checker finds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from tiny_configs import CONFIGS, load_config, tiny_config

from mmwsss.datasets import DatasetError
from mmwsss.datasets.data_report import check_own_data
from mmwsss.datasets.label_files import read_label_file, used_class_names
from mmwsss.datasets.own_data import find_own_data
from mmwsss.registry import DATASETS

TAGS = {'a': ['cat'], 'sub/b': ['dog', 'cat'], 'c': [], 'd e': ['dog']}
CSV = 'a.jpg,cat\nsub/b.jpg,dog cat\nc.jpg,\nd e.jpg,dog\n'
FILES = {
    'labels.json': json.dumps(TAGS),
    'labels.csv': CSV,
    'tags.csv': 'image;tags\n' + CSV.replace(',', ';'),
    'tags.json': json.dumps({'a': [1, 0], 'sub/b': [1, 1], 'c': [0, 0], 'd e': [0, 1]}),
}
TABLE = 'file,cat,dog\na,1,0\n"sub/b.jpg",1,1\nc,0,\nd e,0.0,1\n'


def save_image(path: Path, size: tuple[int, int] = (80, 70), seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, *path.name.encode()]).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four images, without tags yet."""
    for name in TAGS:
        save_image(tmp_path / 'own' / 'images' / f'{name}.jpg')
    return tmp_path / 'own'


@pytest.fixture
def tagged(root: Path) -> Path:
    (root / 'labels.json').write_text(FILES['labels.json'])
    return root


def warnings_of(root: Path, kind: str) -> dict[str, str]:
    """Details of the warnings of a kind by their item."""
    return {found.item: found.detail for found in check_own_data(find_own_data(root)).warnings if found.kind == kind}


def labels_of(root: Path) -> dict[str, list[float]]:
    dataset = DATASETS.build(find_own_data(root).dataset('train') | dict(pipeline=[]))
    assert dataset.metainfo['classes'][0] == 'background'
    names = dataset.metainfo['classes'][1:]
    infos = map(dataset.get_data_info, range(len(dataset)))
    return {info['img_id']: [name for name, on in zip(names, info['image_labels']) if on] for info in infos}


@pytest.mark.parametrize('name', FILES)
def test_files_of_tags_say_the_same(root: Path, name: str) -> None:
    (root / name).write_text(FILES[name])
    if name == 'tags.json':
        (root / 'classes.txt').write_text('cat\ndog\n')
    assert find_own_data(root).classes == ('background', 'cat', 'dog')
    assert labels_of(root) == {key: sorted(value) for key, value in TAGS.items()}


def test_a_table_keeps_the_order_of_its_columns(root: Path) -> None:
    (root / 'labels.csv').write_text(TABLE.replace('cat,dog', 'zebra fish,ant'), encoding='utf-8-sig')
    assert find_own_data(root).classes == ('background', 'zebra fish', 'ant')
    assert labels_of(root) == {'a': ['zebra fish'], 'sub/b': ['zebra fish', 'ant'], 'c': [], 'd e': ['ant']}


def test_a_table_with_a_short_row_is_named(root: Path) -> None:
    (root / 'labels.csv').write_text(TABLE + 'x,1\n')
    with pytest.raises(DatasetError, match=r'labels\.csv: line 6 \(x\) has 2 cells, the header has 3$'):
        read_label_file(str(root / 'labels.csv'))


@pytest.mark.parametrize('first', ['image', 'picture', ''])
@pytest.mark.parametrize('cell', ['2', 'x', 'cat'])
def test_a_table_with_another_cell_is_named(check, root: Path, first: str, cell: str, capsys) -> None:
    (root / 'labels.csv').write_text(f'{first};cat;dog\na;1;0\n\nsub/b.jpg; {cell};1\nc;0;\nd e;0;1\n')
    assert check(root) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert f'labels.csv: line 4 (sub/b.jpg): "{cell}" in the column "cat" is neither 0 nor 1; correct it' in line


@pytest.mark.parametrize('delimiter', [',', '\t'])
def test_a_table_may_say_true_and_false(root: Path, delimiter: str) -> None:
    table = 'image,cat,dog\na,TRUE,FALSE\nsub/b,True,True\nc,False,\nd e,false,true\n'
    (root / 'labels.csv').write_text(table.replace(',', delimiter))
    assert labels_of(root) == {key: sorted(value) for key, value in TAGS.items()}


def test_a_column_without_a_name_is_refused(root: Path) -> None:
    (root / 'labels.csv').write_text('image,cat,dog,\na,1,0,\nsub/b,1,1,\nc,0,0,\nd e,0,1,\n')
    with pytest.raises(DatasetError, match=r'labels\.csv: a column of the header has no name; name the class'):
        find_own_data(root)


def test_long_and_broken_cells(root: Path) -> None:
    (root / 'labels.csv').write_text(CSV.replace('dog cat', '"dog\ncat"'))
    assert labels_of(root)['sub/b'] == ['cat', 'dog']
    (root / 'labels.csv').write_text(CSV + 'x,' + 'cat ' * 50_000)
    with pytest.raises(DatasetError, match=r'labels\.csv: line 5 is no CSV: field larger'):
        find_own_data(root)


def test_numbers_may_name_classes(root: Path) -> None:
    for header in ('', 'image,label\n'):
        (root / 'labels.csv').write_text(header + 'a,7\nsub/b,1\nc,3\nd e,0\n')
        assert find_own_data(root).classes == ('background', '0', '1', '3', '7')
    (root / 'labels.csv').write_text('image,tag,tag 2\na,cat,\nsub/b,cat,dog\nc,,\nd e,dog,\n')
    assert labels_of(root) == {key: sorted(value) for key, value in TAGS.items()}


@pytest.mark.parametrize('name', ['labels.csv', 'labels.txt'])
def test_several_lines_of_an_image(root: Path, name: str) -> None:
    (root / name).write_text('a,cat\nc,dog\n\nsub/b,dog\na,dog cat\nc,dog\nsub/b,\ne,dog\na,cat\n')
    (root / 'images' / 'd e.jpg').rename(root / 'images' / 'e.jpg')
    found = warnings_of(root, 'different tags')
    assert found.keys() == {'a', 'sub/b'}
    assert found['a'] == f'lines 1, 5 and 9 of {name} name different classes; the image gets all of them'
    assert labels_of(root)['a'] == ['cat', 'dog']


def test_an_image_under_two_names(root: Path) -> None:
    (root / 'labels.json').write_text(json.dumps({**TAGS, 'a.jpg': ['dog'], 'other.jpg': ['dog']}))
    assert 'names the image of "a" in labels.json' in warnings_of(root, 'tags not used')['a.jpg']
    assert warnings_of(root, 'tags without an image').keys() == {'other.jpg'}


def test_endings(root: Path) -> None:
    for old, new in {'a.jpg': 'a.JPG', 'c.jpg': 'c.JPEG', 'd e.jpg': 'd e.png'}.items():
        (root / 'images' / old).rename(root / 'images' / new)
    (root / 'labels.json').write_text(json.dumps({'a.jpg': [], 'b.JPG': ['cat'], 'c.jpg': ['dog'], 'd e.jpeg': []}))
    problems = {problem.item: problem.detail for problem in check_own_data(find_own_data(root)).problems}
    assert problems.keys() == {'c', 'd e'}
    assert problems['c'].endswith('which has c.jpg: only the ending differs from the file c.JPEG; list it as c')
    (root / 'labels.json').write_text(json.dumps({'a.jpg': [], 'b.JPG': ['cat'], 'c.jpeg': ['dog'], 'd e': []}))
    assert labels_of(root) == {'a': [], 'sub/b': ['cat'], 'c': ['dog'], 'd e': []}


def test_names_with_spaces_need_the_list(root: Path) -> None:
    (root / 'labels.csv').write_text('a,traffic light,dog\nsub/b,dog|traffic light\nc\nd e,dog\n')
    assert used_class_names(str(root / 'labels.csv')) == ['dog', 'light', 'traffic']
    found = check_own_data(find_own_data(root)).warnings
    assert 'light, traffic' in {warning.item for warning in found if warning.kind == 'inseparable classes'}
    (root / 'classes.txt').write_text('traffic light\nbackground\n\ndog\n')
    assert find_own_data(root).classes == ('background', 'traffic light', 'dog')
    assert labels_of(root)['sub/b'] == ['traffic light', 'dog']


def test_folders_name_classes(tmp_path: Path) -> None:
    for folder in ('dog/indoors', 'cat', 'background'):
        save_image(tmp_path / folder / 'x.png')
    data = find_own_data(tmp_path)
    assert (data.classes, data.img_path, data.tags) == (('background', 'cat', 'dog'), '', None)
    assert labels_of(tmp_path) == {'cat/x': ['cat'], 'dog/indoors/x': ['dog'], 'background/x': []}
    save_image(tmp_path / 'loose.png')
    (problem,) = check_own_data(data).problems
    assert (problem.kind, problem.item) == ('missing label', 'loose')


def test_lists_and_masks(tagged: Path) -> None:
    (tagged / 'train.txt').write_text('a.jpg\nc\n')
    (tagged / 'masks' / 'sub').mkdir(parents=True)
    Image.fromarray(np.full((70, 80), 2, dtype=np.uint8)).save(tagged / 'masks' / 'sub' / 'b.png')
    data = find_own_data(tagged)
    train, val = (DATASETS.build(data.dataset(split) | dict(pipeline=[])) for split in ('train', 'val'))
    assert [train.get_data_info(i)['img_id'] for i in range(len(train))] == ['a', 'c']
    assert 'seg_map_path' not in train.get_data_info(0)
    assert [val.get_data_info(i)['img_id'] for i in range(len(val))] == ['sub/b']
    report = check_own_data(data)
    assert (report.problems, report.num_masks) == ([], 1)
    Image.fromarray(np.full((70, 80), 3, dtype=np.uint8)).save(tagged / 'masks' / 'sub' / 'b.png')
    Image.fromarray(np.zeros((7, 8), dtype=np.uint8)).save(tagged / 'masks' / 'c.png')
    assert [problem.kind for problem in check_own_data(data).problems] == [
        'mask size',
        'label outside of the class list',
    ]


def test_classes_are_counted_over_the_list_of_the_training(check, tagged: Path, capsys) -> None:
    (tagged / 'train.txt').write_text('a\nc\n')
    (tagged / 'val.txt').write_text('sub/b\nd e\n')
    assert warnings_of(tagged, 'empty class').keys() == {'dog'}
    assert warnings_of(tagged, 'tiny class') == {'cat': 'only 1 image(s) of train.txt, fewer than 20'}
    assert not warnings_of(tagged, 'train and val overlap')
    assert check(tagged) == 0
    shown = capsys.readouterr().out
    assert re.search('images.*train.*val.*most often', shown)
    assert re.search(r'dog\W.*│ 2 +│ 0 +│ 2 +│ cat', shown)
    assert check(tagged, '--json') == 0
    assert json.loads(capsys.readouterr().out)['lists'] == dict(
        train=dict(images=2, images_per_class=dict(cat=1, dog=0)),
        val=dict(images=2, images_per_class=dict(cat=1, dog=2)),
    )


def test_images_to_train_and_to_evaluate_on(tagged: Path) -> None:
    kind = 'train and val overlap'
    assert not warnings_of(tagged, kind)
    (tagged / 'val.txt').write_text('sub/b.jpg\na\n')
    (found,) = warnings_of(tagged, kind).items()
    text = 'are trained on and evaluated on'
    assert found == ('val.txt', f'2 image(s) {text}, as there is no train.txt, so scores are too good: a, sub/b')
    (tagged / 'train.txt').write_text('a\nc\n')
    assert warnings_of(tagged, kind) == {'train.txt and val.txt': f'1 image(s) {text}, so scores are too good: a'}
    (tagged / 'val.txt').unlink()
    assert '2 image(s)' in warnings_of(tagged, kind)['train.txt']
    (tagged / 'masks').mkdir()
    Image.new('L', (80, 70)).save(tagged / 'masks' / 'd e.png')
    assert not warnings_of(tagged, kind)


def two_files(root: Path) -> None:
    (root / 'labels.txt').write_text('a cat')


def no_tags(root: Path) -> None:
    (root / 'labels.json').unlink()
    (root / 'images' / 'sub' / 'b.jpg').unlink()
    (root / 'images' / 'sub').rmdir()


def vectors(root: Path) -> None:
    (root / 'labels.json').write_text('{"a": [1, 0]}')


def twice(root: Path) -> None:
    (root / 'classes.txt').write_text('cat\ndog\ncat\n')


def many(root: Path) -> None:
    (root / 'classes.txt').write_text('\n'.join(map(str, range(300))))


def other_encoding(root: Path) -> None:
    (root / 'classes.txt').write_bytes('Bär\n'.encode('latin1'))


def loose_images(root: Path) -> None:
    (root / 'images').rename(root / 'pictures')
    (root / 'masks').mkdir()


@pytest.mark.parametrize(
    ('mistake', 'message'),
    [
        (two_files, r'several files of tags \(labels\.json, labels\.txt\); leave one'),
        (no_tags, r'no file of tags .* and no folder for each class'),
        (vectors, r'holds vectors, which name no classes; list the names in .*classes\.txt'),
        (twice, r'names a class twice: cat'),
        (many, r'300 classes, masks can tell 254 apart'),
        (other_encoding, r'classes\.txt: not UTF-8 text .*; save it as UTF-8'),
        (loose_images, r'none named images; move the images'),
    ],
)
def test_what_is_not_clear_is_said(tagged: Path, mistake: Callable[[Path], None], message: str) -> None:
    mistake(tagged)
    with pytest.raises(DatasetError, match=message):
        find_own_data(tagged)


@pytest.fixture
def troubled(tagged: Path) -> Path:
    """Data with one fault of every kind."""
    images = tagged / 'images'
    tags = dict(TAGS, small=['cat'], grey=['cat'], gone=['dog'], broken=['dog'], copy=['bird'], again=['cat'])
    save_image(images / 'small.png', (20, 90))
    Image.new('RGB', (70, 70), (90, 90, 90)).save(images / 'grey.png')
    for name in ('again', 'copy'):
        (images / f'{name}.jpg').write_bytes((images / 'a.jpg').read_bytes())
    (images / 'broken.jpg').write_bytes((images / 'a.jpg').read_bytes()[:300])
    save_image(images / 'untagged.jpg')
    (tagged / 'labels.json').write_text(json.dumps(tags))
    (tagged / 'classes.txt').write_text('cat\ndog\nCat\nowl\n')
    return tagged


def test_the_checker_finds_every_fault(troubled: Path) -> None:
    report = check_own_data(find_own_data(troubled), few_images=4)
    problems = {(problem.kind, Path(problem.item).name) for problem in report.problems}
    assert problems == {('unreadable image', 'broken.jpg'), ('missing label', 'untagged'), ('unknown class', 'copy')}
    warnings = {(warning.kind, warning.item) for warning in report.warnings}
    assert warnings == {
        ('empty class', 'Cat'), ('empty class', 'owl'), ('tiny class', 'dog'), ('similar names', 'cat, Cat'),
        ('small image', 'small'), ('nearly constant image', 'grey'), ('duplicate image', 'again'),
        ('duplicate with other tags', 'copy'), ('tags without an image', 'gone'),
    }  # fmt: skip
    assert report.images_per_class == {'cat': 5, 'dog': 3, 'Cat': 0, 'owl': 0}
    assert report.labels_per_image == {0: 3, 1: 6, 2: 1}
    assert report.together.tolist() == [[5, 1, 0, 0], [1, 3, 0, 0], [0] * 4, [0] * 4]


def test_masks_of_no_image_stop_a_training(tagged: Path) -> None:
    (tagged / 'masks').mkdir()
    Image.new('L', (80, 70)).save(tagged / 'masks' / 'other.png')
    data = find_own_data(tagged)
    assert [problem.kind for problem in check_own_data(data).problems] == ['no mask used']
    with pytest.raises(DatasetError, match='empty split'):
        DATASETS.build(data.dataset('val') | dict(pipeline=[]))


def test_a_class_in_every_image(tagged: Path) -> None:
    (tagged / 'labels.json').write_text(json.dumps({name: ['cat'] for name in TAGS}))
    (warning,) = check_own_data(find_own_data(tagged), few_images=1).warnings
    assert (warning.kind, warning.item) == ('class in every image', 'cat')


@pytest.fixture
def check(load_tool, run_main) -> Callable[..., int]:
    return partial(run_main, load_tool('dataset_converters/check_dataset'))


def test_command(check, tagged: Path, capsys: pytest.CaptureFixture) -> None:
    assert check(tagged, '--few-images', 0) == 0
    shown = capsys.readouterr().out
    printed = shown[shown.index('train_dataset = ') :]
    config = Config.fromstring(printed, '.py')
    assert config.train_dataset.metainfo.classes == ('background', 'cat', 'dog')
    assert len(DATASETS.build(config.val_dataset)) == len(TAGS)
    assert 'cat (1)' in shown
    assert check(tagged, '--json') == 0
    report = json.loads(capsys.readouterr().out)
    assert report['colours'] == ['#000000', '#800000', '#008000']
    assert report['together'] == [['cat', 'dog', 1]]
    assert report['short_side'] == dict(least=70, median=70, most=70)


def test_the_command_says_how_many_it_leaves_out(check, tagged: Path, capsys: pytest.CaptureFixture) -> None:
    (tagged / 'classes.txt').write_text('cat\ndog\n' + ''.join(f'other {number}\n' for number in range(6)))
    assert check(tagged, '--few-images', 0) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    start = lines.index('warnings: empty class (6)')
    assert lines[start + 5].startswith('other 4: ')
    assert lines[start + 6] == '... and 1 more; --json lists all'


def test_printed_lines_make_a_config_of_another_method(
    check, tagged: Path, repository: Path, tmp_path: Path, capsys
) -> None:
    assert check(tagged) == 0
    shown = capsys.readouterr().out
    page = (repository / 'docs' / 'own_data.md').read_text()
    (lines,) = re.findall(r'```text\n(.*?)```', page, re.DOTALL)
    lines = lines.replace('num_classes=7', 'num_classes=3')
    (tmp_path / 'my_apc.py').write_text(shown[shown.index('train_dataset = ') :] + lines)
    cfg = Config.fromfile(tmp_path / 'my_apc.py')
    assert cfg.model.decode_head.num_classes == len(cfg.train_dataloader.dataset.metainfo.classes) == 3
    assert len(DATASETS.build(cfg.train_dataloader.dataset)) == len(TAGS)
    with pytest.raises(ValueError, match='loads masks, but the dataset has none'):
        DATASETS.build(cfg.val_dataloader.dataset)


def test_exit_status(check, troubled: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert check(troubled) == 1
    assert 'train_dataset' not in capsys.readouterr().out
    assert check(tmp_path / 'none') == 2
    assert capsys.readouterr().err == (
        f'error: {tmp_path / "none"}: no such folder; name the folder of your images and tags (MMWSSS_DATA_ROOT)\n'
    )


def test_tags_alone_train_and_evaluate(tagged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MMWSSS_DATA_ROOT', str(tagged))
    assert load_config(CONFIGS / 'vitpcm_own.py').model.head.num_classes == 3
    cfg = tiny_config(CONFIGS / 'vitpcm_own.py', tagged, tmp_path / 'run')
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.test().keys() >= {'mAP'}
    assert cfg.train_dataloader.dataset.metainfo.classes == ('background', 'cat', 'dog')
