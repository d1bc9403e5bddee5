import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.structures import PixelData
from mmseg.datasets import PascalVOCDataset
from mmseg.structures import SegDataSample
from PIL import Image
from tiny_configs import CONFIGS, tiny_config, write_data

from mmwsss.evaluation.voc_archive import (
    CHALLENGE,
    ArchiveError,
    VOCArchive,
    check_voc_classes,
    verify_voc_archive,
    write_voc_archive,
)
from mmwsss.registry import METRICS, MODELS

SIZES = {'a': (4, 6), 'b': (5, 3)}


@pytest.fixture(autouse=True, scope='module')
def scope():
    before = DefaultScope.get_current_instance()
    init_default_scope('mmwsss')
    yield
    init_default_scope(before.scope_name if before else 'mmengine')


def save(path, mask, mode='P'):
    image = Image.fromarray(np.asarray(mask, dtype=np.uint8), mode='P')
    image.putpalette([value for value in range(256) for _ in range(3)])
    image.convert(mode).save(path)


@pytest.fixture
def masks(tmp_path):
    folder = tmp_path / 'masks'
    folder.mkdir()
    for index, (name, size) in enumerate(SIZES.items()):
        save(folder / f'{name}.png', np.full(size, index))
    return folder


def pack(path, files):
    with tarfile.open(path, 'w:gz') as archive:
        for name, source in files:
            archive.add(source, name)
    return path


def entries(masks):
    return [(f'{CHALLENGE}/{name}.png', masks / f'{name}.png') for name in SIZES]


def test_layout(masks, tmp_path):
    out = write_voc_archive(masks, tmp_path / 'new' / 'out.tar.gz', SIZES, 2)
    with tarfile.open(out, 'r:gz') as archive:
        assert archive.getnames() == [f'results/VOC2012/Segmentation/comp6_test_cls/{name}.png' for name in SIZES]
        image = Image.open(io.BytesIO(archive.extractfile(archive.getnames()[1]).read()))
        assert image.mode == 'P'
        assert np.array_equal(np.asarray(image), np.ones((5, 3)))
    verify_voc_archive(out, SIZES, 2)
    assert [path.name for path in out.parent.iterdir()] == ['out.tar.gz']


def test_what_the_server_would_not_take(masks, tmp_path):
    out = tmp_path / 'out.tar.gz'
    cases = {
        'missing': lambda: pack(out, entries(masks)[:1]),
        'not in the split': lambda: pack(out, [*entries(masks), ('results/c.png', masks / 'a.png')]),
        'twice': lambda: pack(out, [*entries(masks), entries(masks)[0]]),
        r'b: \(4, 6\) \(height, width\), the image is \(5, 3\)': lambda: pack(
            out, [entries(masks)[0], (entries(masks)[1][0], masks / 'a.png')]
        ),
        'no readable tar.gz': lambda: out.write_bytes(out.read_bytes()[:50]),
        'b: cannot identify': lambda: pack(out, [entries(masks)[0], (entries(masks)[1][0], __file__)]),
    }
    for message, damage in cases.items():
        write_voc_archive(masks, out, SIZES, 2)
        damage()
        with pytest.raises(ArchiveError, match=message):
            verify_voc_archive(out, SIZES, 2)


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda folder: (folder / 'b.png').unlink(), 'b: no mask in'),
        (lambda folder: save(folder / 'b.png', np.full((5, 3), 2)), 'b: holds 2, expected classes below 2'),
        (lambda folder: save(folder / 'b.png', np.full((5, 3), 255)), 'b: holds 255'),
        (lambda folder: save(folder / 'b.png', np.full((5, 3), 1), 'RGB'), 'b: mode RGB, expected palette'),
    ],
)
def test_bad_masks_leave_the_old_archive(masks, tmp_path, damage, message):
    out = write_voc_archive(masks, tmp_path / 'out.tgz', SIZES, 2)
    before = out.read_bytes()
    damage(masks)
    with pytest.raises(ArchiveError, match=message):
        write_voc_archive(masks, out, SIZES, 2)
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ['masks', 'out.tgz']


def test_only_voc():
    check_voc_classes(PascalVOCDataset.METAINFO)
    with pytest.raises(ArchiveError, match='21 classes of PASCAL VOC, the dataset has 2'):
        check_voc_classes({'classes': ('background', 'cat')})
    with pytest.raises(ArchiveError, match='21 palette of PASCAL VOC, the dataset has 0'):
        check_voc_classes({'classes': PascalVOCDataset.METAINFO['classes']})
    with pytest.raises(ArchiveError, match='21 classes of PASCAL VOC, the dataset has others'):
        VOCArchive('x.tgz').dataset_meta = {'classes': PascalVOCDataset.METAINFO['classes'][::-1]}


def predicted(name, label):
    sample = SegDataSample(metainfo={'img_id': name, 'ori_shape': SIZES[name]})
    sample.pred_sem_seg = PixelData(data=torch.full((1, *SIZES[name]), label))
    return sample.to_dict()


def test_collector(tmp_path):
    metric = METRICS.build(dict(type='VOCArchive', out=str(tmp_path / 'out.tar.gz')))
    metric.dataset_meta = PascalVOCDataset.METAINFO
    for name in SIZES:
        metric.process(None, [predicted(name, 20)])
    assert metric.evaluate(2) == {}
    verify_voc_archive(tmp_path / 'out.tar.gz', SIZES, 21)
    assert [path.name for path in tmp_path.iterdir()] == ['out.tar.gz']
    with tarfile.open(tmp_path / 'out.tar.gz') as archive:
        image = Image.open(archive.extractfile(archive.getmembers()[0]))
        assert image.getpalette()[60:63] == list(PascalVOCDataset.METAINFO['palette'][20])
    for name in ('a', 'a'):
        metric.process(None, [predicted(name, 1)])
    with pytest.raises(ArchiveError, match='1 images were predicted, the split has 2'):
        metric.evaluate(2)


def test_from_the_tool(tmp_path, load_tool, run_main, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data_root = write_data(tmp_path / 'data', 'WeakVOCDataset', train=2, val=3)
    cfg = tiny_config(CONFIGS / 'vitpcm_voc12mini.py', data_root, tmp_path / 'work')
    cfg.dump(tmp_path / 'tiny.py')
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, 'a.pth')
    sizes = {path.stem: Image.open(path).size[::-1] for path in (data_root / 'JPEGImages').glob('val_*')}

    def run(*arguments):
        return run_main(load_tool('test'), 'tiny.py', 'a.pth', '--work-dir', 'eval', *arguments)

    assert run('--voc-archive', 'out.tar.gz', '--out', 'png') == 0
    assert 'archive: out.tar.gz' in capsys.readouterr().out
    verify_voc_archive('out.tar.gz', sizes, 21)
    with tarfile.open('out.tar.gz') as archive:
        for member in archive.getmembers():
            archived = np.asarray(Image.open(archive.extractfile(member)))
            assert np.array_equal(archived, np.asarray(Image.open(tmp_path / 'png' / member.name.split('/')[-1])))

    server = ['test_dataloader.dataset.label_source=None', 'test_dataloader.dataset.data_prefix.seg_map_path=None']
    assert run('--voc-archive', 'server.tgz', '--out', 'server', '--cfg-options', *server) == 0
    verify_voc_archive('server.tgz', sizes, 21)
    assert run('--out', 'alone', '--cfg-options', *server) == 0
    for folder in ('server', 'alone'):
        assert {path.stem for path in Path(folder).iterdir()} == set(sizes)

    def failing(*arguments):
        raise ArchiveError('the archive is not right')

    monkeypatch.setattr('mmwsss.evaluation.voc_archive.write_voc_archive', failing)
    for arguments, message in [
        (['--voc-archive', 'out.zip'], 'name it so'),
        (['--voc-archive', 'x.tgz'], 'error: the archive is not right'),
        (['--cfg-options', *server], 'have no masks to score against'),
        (
            ['--voc-archive', 'x.tgz', '--cfg-options', 'test_dataloader.dataset.type=ShapesDataset'],
            'the dataset has 7',
        ),
    ]:
        assert run(*arguments) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ('step', 'message'), [('ProportionalMask', 'put DropBackground before it'), ('Gone', 'labeler cannot be built: ')]
)
def test_mistakes_in_steps_end_the_tool_with_one_line(
    tmp_path, load_tool, run_main, monkeypatch, capsys, step, message
):
    monkeypatch.chdir(tmp_path)
    data_root = write_data(tmp_path / 'data', 'WeakVOCDataset', train=2, val=3)
    cfg = tiny_config(CONFIGS / 'vitpcm_voc12mini.py', data_root, tmp_path / 'work')
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, 'a.pth')
    cfg.model.pseudo_labeler = dict(steps=[dict(type=step)])
    cfg.dump('steps.py')
    assert run_main(load_tool('test'), 'steps.py', 'a.pth', '--work-dir', 'eval') == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1
    assert message in lines[0]
