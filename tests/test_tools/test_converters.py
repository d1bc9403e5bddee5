import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from mmwsss.datasets import WeakVOCDataset

FOLDER = Path(__file__).parents[2] / 'tools' / 'dataset_converters'


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def save_image(root, image_id, size):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(
        root / 'JPEGImages' / f'{image_id}.jpg'
    )


def mask_of(size, value):
    mask = np.zeros(size[::-1], dtype=np.uint8)
    mask[: size[1] // 2] = value
    return mask


@pytest.fixture
def devkit(tmp_path):
    """A fake VOCdevkit with 2 train and 1 val image, and an SBD with 2 more, one of VOC train and the one of val."""
    voc, sbd = tmp_path / 'VOCdevkit' / 'VOC2012', tmp_path / 'sbd' / 'dataset'
    for folder in (voc / 'JPEGImages', voc / 'SegmentationClass', voc / 'ImageSets' / 'Segmentation', sbd / 'cls'):
        folder.mkdir(parents=True)
    size = (50, 30)
    for number, value in enumerate((1, 2, 3), start=1):
        save_image(voc, f'v{number}', size)
        mask = mask_of(size, value)
        mask[-1] = 255
        Image.fromarray(mask).save(voc / 'SegmentationClass' / f'v{number}.png')
    for name, value in (('v1', 9), ('v3', 9), ('s1', 4), ('s2', 20)):
        save_image(voc, name, size)
        savemat(sbd / 'cls' / f'{name}.mat', {'GTcls': {'Segmentation': mask_of(size, value)}})
    lists = voc / 'ImageSets' / 'Segmentation'
    (lists / 'train.txt').write_text('v1\nv2\n')
    (lists / 'val.txt').write_text('v3\n')
    (sbd / 'train.txt').write_text('v1\ns2\n')
    (sbd / 'val.txt').write_text('s1\nv3\n')
    return voc, sbd


def test_voc12aug_writes_masks_and_lists(tool, devkit):
    voc, sbd = devkit
    out = voc / 'SegmentationClassAug'
    report = tool('voc12aug').convert(voc, sbd, out, allow_other_counts=True)
    assert any('trainaug' in line and ' 4 ids, expected 10582' in line for line in report)
    lists = voc / 'ImageSets' / 'Segmentation'
    assert (lists / 'aug.txt').read_text() == 's1\ns2\n'
    assert (lists / 'trainaug.txt').read_text() == 's1\ns2\nv1\nv2\n'
    values = {path.stem: np.unique(np.asarray(Image.open(path))).tolist() for path in out.iterdir()}
    assert values == {'s1': [0, 4], 's2': [0, 20], 'v1': [0, 1, 255], 'v2': [0, 2, 255], 'v3': [0, 3, 255]}
    assert Image.open(out / 's1.png').getpalette()[:6] == [0, 0, 0, 128, 0, 0]
    dataset = WeakVOCDataset(
        'ImageSets/Segmentation/trainaug.txt', data_root=str(voc), data_prefix={'seg_map_path': 'SegmentationClassAug'}
    )
    assert np.flatnonzero(dataset.image_label_matrix().sum(0)).tolist() == [0, 1, 3, 19]


def test_voc12aug_checks_counts_files_and_values(tool, devkit):
    voc, sbd = devkit
    module, out = tool('voc12aug'), voc / 'SegmentationClassAug'
    error = tool('voc_common').ConversionError
    with pytest.raises(error, match=r'trainaug .* expected 10582'):
        module.convert(voc, sbd, out)
    savemat(sbd / 'cls' / 's1.mat', {'GTcls': {'Segmentation': mask_of((50, 30), 21)}})
    with pytest.raises(error, match=r's1.*unknown values \[21\]'):
        module.convert(voc, sbd, out, allow_other_counts=True)
    assert not (voc / 'ImageSets' / 'Segmentation' / 'trainaug.txt').exists()
    (sbd / 'cls' / 's1.mat').unlink()
    with pytest.raises(error, match=r'1 of 5 masks are missing, the first:\s+.*s1\.mat'):
        module.convert(voc, sbd, out, allow_other_counts=True)


def test_voc12aug_skips_finished_masks(tool, devkit):
    voc, sbd = devkit
    module, out = tool('voc12aug'), voc / 'SegmentationClassAug'
    module.convert(voc, sbd, out, allow_other_counts=True)
    savemat(sbd / 'cls' / 's1.mat', {'GTcls': {'Segmentation': mask_of((50, 30), 7)}})
    module.convert(voc, sbd, out, allow_other_counts=True)
    assert np.asarray(Image.open(out / 's1.png')).max() == 4
    module.convert(voc, sbd, out, allow_other_counts=True, overwrite=True)
    assert np.asarray(Image.open(out / 's1.png')).max() == 7


@pytest.fixture
def mini_source(devkit, tmp_path):
    voc, _ = devkit
    (voc / 'SegmentationClassAug').mkdir()
    save_image(voc, 's1', (500, 281))
    Image.fromarray(mask_of((500, 281), 5)).save(voc / 'SegmentationClassAug' / 's1.png')
    Image.fromarray(mask_of((50, 30), 9)).save(voc / 'SegmentationClassAug' / 'v1.png')
    splits = tmp_path / 'splits'
    splits.mkdir()
    (splits / 'train.txt').write_text('s1\nv1\n')
    (splits / 'val.txt').write_text('v3\n')
    return voc, splits


def test_voc12_mini_scales_and_prefers_official_masks(tool, mini_source, tmp_path):
    voc, splits = mini_source
    out = tmp_path / 'mini'
    assert tool('voc12_mini').convert(voc, voc / 'SegmentationClassAug', out, splits) == {'train': 2, 'val': 1}
    sizes = {path.stem: Image.open(path).size for path in (out / 'JPEGImages').iterdir()}
    assert sizes == {'s1': (320, 180), 'v1': (50, 30), 'v3': (50, 30)}
    assert {path.stem: Image.open(path).size for path in (out / 'SegmentationClass').iterdir()} == sizes
    dataset = WeakVOCDataset('ImageSets/Segmentation/train.txt', data_root=str(out))
    assert [np.flatnonzero(row).tolist() for row in dataset.image_label_matrix()] == [[4], [0]]
    image = Image.open(out / 'JPEGImages' / 's1.jpg')
    reference = tmp_path / 'reference.jpg'
    Image.new('RGB', (8, 8)).save(reference, quality=88)
    assert image.quantization == Image.open(reference).quantization


def test_voc12_mini_is_idempotent_and_lists_missing_files(tool, mini_source, tmp_path):
    voc, splits = mini_source
    module, out = tool('voc12_mini'), tmp_path / 'mini'
    error = tool('voc_common').ConversionError
    Image.fromarray(mask_of((50, 31), 3)).save(voc / 'SegmentationClass' / 'v3.png')
    with pytest.raises(error, match=r'v3: mask is \(50, 31\), image is \(50, 30\)'):
        module.convert(voc, voc / 'SegmentationClassAug', out, splits)
    Image.fromarray(mask_of((50, 30), 3)).save(voc / 'SegmentationClass' / 'v3.png')
    finished = out / 'JPEGImages' / 's1.jpg'
    before = finished.stat().st_mtime_ns
    module.convert(voc, voc / 'SegmentationClassAug', out, splits)
    assert finished.stat().st_mtime_ns == before
    assert sorted(path.name for path in (out / 'JPEGImages').iterdir()) == ['s1.jpg', 'v1.jpg', 'v3.jpg']
    (splits / 'val.txt').write_text('v3\nnone\n')
    with pytest.raises(error, match=r'1 of 4 images are missing, the first:\s+.*none\.jpg'):
        module.convert(voc, voc / 'SegmentationClassAug', out, splits)


def test_shipped_lists(tool):
    module = tool('voc12_mini')
    lists = {path.stem: tool('voc_common').read_ids(path) for path in module.SPLITS.glob('*.txt')}
    counts = {name: len(ids) for name, ids in lists.items()}
    assert counts == {'train': 900, 'train_official': 663, 'val': 334, 'train_animal6': 385, 'val_animal6': 204}
    assert all(len(set(ids)) == len(ids) for ids in lists.values())
    assert not set(lists['train']) & set(lists['val'])
    assert set(lists['train_official']) | set(lists['train_animal6']) <= set(lists['train'])


def test_command_line_reports_one_error_line(tmp_path):
    command = [sys.executable, str(FOLDER / 'voc12_mini.py'), str(tmp_path), '--out', str(tmp_path / 'out')]
    done = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER.parents[1])
    assert done.returncode == 2
    assert done.stderr.startswith('error: 1234 of 1234 images are missing, the first:')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('content', ['text', 'list'])
def test_a_file_that_is_no_vit_is_named(load_converter, check_refusal, tmp_path: Path, content: str) -> None:
    source = tmp_path / 'vit.pth'
    if content == 'text':
        source.write_text('hello')
    else:
        torch.save([1], source)
    check_refusal(load_converter('vit_to_mmwsss'), source, f'{source} cannot be read')
