"""Data as they come: each file either works, and then the right values are loaded, or gives one clear error."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mini_voc import LABELS, save_pair
from PIL import Image, ImageOps
from torch.utils.data import ConcatDataset, DataLoader

from mmwsss.datasets import DatasetError, ResumableInfiniteSampler, WeakVOCDataset
from mmwsss.datasets.corrupt_files import corrupt_images
from mmwsss.utils.images import decode_image
from mmwsss.utils.seeding import SampleDraw

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
SIZE = (24, 16)  # width and height
SMOOTH = cv2.resize(
    np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8), SIZE, interpolation=cv2.INTER_CUBIC
)


def dataset(voc: Path, **settings: Any) -> WeakVOCDataset:
    defaults = dict(ann_file='split.txt', data_root=str(voc), pipeline=LOAD)
    return WeakVOCDataset(**{**defaults, **settings})


def encoded(picture: Image.Image, kind: str, **settings: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **settings)
    return stream.getvalue()


def oriented(picture: Image.Image, kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture, kind, exif=exif)


def with_16_bits(values: np.ndarray) -> bytes:
    return cv2.imencode('.png', values.astype(np.uint16) * 257)[1].tobytes()


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims to be large; nobody should decode it."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))

    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + header + chunk(b'IDAT', zlib.compress(b'\0' * 1000)) + chunk(b'IEND', b'')


def rgb(picture: Image.Image) -> np.ndarray:
    return np.array(ImageOps.exif_transpose(picture).convert('RGB'))


PICTURE = Image.fromarray(SMOOTH)
GREY = Image.fromarray(SMOOTH[..., 0])
ALPHA = Image.fromarray(np.dstack([SMOOTH, SMOOTH[..., 0]]))
THREE_GREY = np.repeat(SMOOTH[..., :1], 3, axis=2)
JPEG, PNG = encoded(PICTURE, 'JPEG'), encoded(PICTURE, 'PNG')
DAMAGED = bytearray(PNG)
DAMAGED[len(PNG) // 2] ^= 0xFF

# Content of an image file, and the pixels that have to come out: an array, or None for what Pillow makes of them.
GOOD: dict[str, tuple[bytes, np.ndarray | None]] = {
    'jpeg': (JPEG, None),
    'jpeg with something behind it': (JPEG + b'made by a telephone', None),
    'jpeg with zeros behind it': (JPEG + bytes(40), None),
    'png named jpg': (PNG, SMOOTH),
    'webp named jpg': (encoded(PICTURE, 'WEBP', lossless=True), SMOOTH),
    'bmp named jpg': (encoded(PICTURE, 'BMP'), SMOOTH),
    '16-bit colours': (with_16_bits(SMOOTH[..., ::-1]), SMOOTH),
    '16-bit grey': (with_16_bits(SMOOTH[..., 0]), THREE_GREY),
    'grey png': (encoded(GREY, 'PNG'), THREE_GREY),
    'grey jpeg': (encoded(GREY, 'JPEG'), None),
    'alpha': (encoded(ALPHA, 'PNG'), SMOOTH),
    'grey and alpha': (encoded(ALPHA.convert('LA'), 'PNG'), np.array(PICTURE.convert('L').convert('RGB'))),
    'palette': (encoded(PICTURE.quantize(16), 'PNG'), None),
    'one bit': (encoded(GREY.convert('1'), 'PNG'), None),
    'cmyk': (encoded(PICTURE.convert('CMYK'), 'JPEG', quality=95), None),
    **{f'exif {n} {kind}': (oriented(PICTURE, kind, n), None) for n in (2, 3, 4, 6, 8) for kind in ('JPEG', 'PNG')},
}  # fmt: skip
# Content of an image file, and a part of the message.
BAD: dict[str, tuple[bytes, str]] = {
    **{f'jpeg cut at {part}': (JPEG[: int(len(JPEG) * part)], 'unreadable image') for part in (0.2, 0.6, 0.97)},
    **{f'png cut at {part}': (PNG[: int(len(PNG) * part)], 'unreadable image') for part in (0.2, 0.6, 0.9)},
    'png with a wrong byte': (bytes(DAMAGED), 'unreadable image'),
    'webp cut': (encoded(PICTURE, 'WEBP', lossless=True)[:-40], 'unreadable image'),
    'empty file': (b'', 'unreadable image'),
    'zeros': (bytes(500), 'unreadable image'),
    'text': (b'<html>404 Not Found</html>', 'unreadable image'),
    'start of a jpeg': (JPEG[:3], 'unreadable image'),
    'bomb': (bomb(60000, 60000), 'unreadable image'),
    'bomb of one line': (bomb(2**31 - 1, 1), 'unreadable image'),
    'no pixels': (bomb(0, 5), 'unreadable image'),
}  # fmt: skip


@pytest.mark.parametrize('name', GOOD)
def test_images_that_work(voc: Path, name: str) -> None:
    content, expected = GOOD[name]
    (voc / 'JPEGImages' / 'a_02.jpg').write_bytes(content)
    expected = rgb(Image.open(io.BytesIO(content))) if expected is None else expected
    mask = np.zeros(expected.shape[:2], np.uint8)
    mask[3, 4], mask[5, 6], mask[0] = 12, 15, 255
    Image.fromarray(mask).save(voc / 'SegmentationClass' / 'a_02.png')
    item = dataset(voc)[1]
    assert item['img'].shape == expected.shape
    assert item['img'].dtype == np.uint8
    assert np.abs(item['img'][..., ::-1].astype(int) - expected).max() <= 1  # inks of CMYK are rounded
    assert np.array_equal(item['gt_seg_map'], mask)
    assert np.flatnonzero(item['image_labels']).tolist() == [11, 14]


@pytest.mark.parametrize('name', BAD)
def test_images_that_do_not(voc: Path, name: str) -> None:
    content, kind = BAD[name]
    path = voc / 'JPEGImages' / 'a_02.jpg'
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf'1 problem\(s\) found before training[\s\S]*{kind}: .*a_02\.jpg: \S'):
        dataset(voc)
    with pytest.raises(DatasetError, match=r'the image .*a_02\.jpg cannot be read: \S.*; replace the file'):
        dataset(voc, check='none')[1]


def palette_mask(mask: np.ndarray) -> Image.Image:
    picture = Image.fromarray(mask, 'P')
    picture.putpalette([value for entry in WeakVOCDataset.METAINFO['palette'] for value in entry])
    return picture


MASK = np.zeros(SIZE[::-1], np.uint8)
MASK[2, 3], MASK[4], MASK[0] = 12, 15, 255
GOOD_MASKS = {
    'grey': encoded(Image.fromarray(MASK), 'PNG'),
    'palette': encoded(palette_mask(MASK), 'PNG'),
    '16 bits': cv2.imencode('.png', MASK.astype(np.uint16))[1].tobytes(),
    'interlaced tiff named png': encoded(Image.fromarray(MASK), 'TIFF'),
}
BAD_MASKS = {
    'rgb': (encoded(palette_mask(MASK).convert('RGB'), 'PNG'), 'unreadable mask: .*save it as L or P'),
    'rgba': (encoded(palette_mask(MASK).convert('RGBA'), 'PNG'), 'unreadable mask: .*save it as L or P'),
    'one pixel less': (encoded(Image.fromarray(MASK[:-1]), 'PNG'), 'mask size: .*mask is 24x15, image is 24x16'),
    'one pixel more': (encoded(Image.fromarray(np.pad(MASK, ((0, 0), (0, 1)))), 'PNG'), 'mask is 25x16'),
    'turned': (encoded(Image.fromarray(MASK.T.copy()), 'PNG'), 'mask is 16x24'),
    'class 21': (encoded(Image.fromarray(np.where(MASK == 12, 21, MASK)), 'PNG'), r'mask holds 21, expected 0\.\.20'),
    'class 268': (
        cv2.imencode('.png', np.where(MASK == 12, 268, MASK.astype(np.uint16)))[1].tobytes(),
        r'mask holds 268, expected 0\.\.20',
    ),
    'floats': (encoded(Image.fromarray(MASK.astype(np.float32)), 'TIFF'), 'unreadable mask'),
    'cut': (encoded(Image.fromarray(MASK), 'PNG')[:48], 'unreadable mask'),
    'empty': (b'', 'unreadable mask'),
    'bomb': (bomb(60000, 60000), 'unreadable mask'),
}  # fmt: skip


@pytest.mark.parametrize('name', GOOD_MASKS)
def test_masks_that_work(voc: Path, name: str) -> None:
    (voc / 'SegmentationClass' / 'a_02.png').write_bytes(GOOD_MASKS[name])
    item = dataset(voc)[1]
    assert np.array_equal(item['gt_seg_map'], MASK)
    assert np.flatnonzero(item['image_labels']).tolist() == [11, 14]


@pytest.mark.parametrize('name', BAD_MASKS)
@pytest.mark.parametrize('source', ['mask', None])
def test_masks_that_do_not(voc: Path, name: str, source: str | None) -> None:
    content, message = BAD_MASKS[name]
    (voc / 'SegmentationClass' / 'a_02.png').write_bytes(content)
    with pytest.raises(DatasetError, match=r'1 problem\(s\) found before training[\s\S]*a_02\.png'):
        dataset(voc, label_source=source)
    with pytest.raises(DatasetError, match=message):
        dataset(voc, label_source=source)


@pytest.mark.parametrize('name', ['cut', 'empty', 'rgb', 'bomb'])
def test_a_mask_that_breaks_later(voc: Path, name: str) -> None:
    data = dataset(voc)
    (voc / 'SegmentationClass' / 'a_02.png').write_bytes(BAD_MASKS[name][0])
    with pytest.raises(DatasetError, match=r'the mask .*a_02\.png (cannot be read|has several channels)'):
        data[1]


LISTS = {
    'windows line ends': b'a_01\r\na_03\r\n',
    'byte order mark': b'\xef\xbb\xbfa_01\na_03\n',
    'blank lines and spaces': b'\n  a_01 \t\n\n\na_03\n\n  \n',
    'endings': b'a_01.jpg\na_03.jpg',
}


@pytest.mark.parametrize('name', LISTS)
def test_lists_that_work(voc: Path, name: str) -> None:
    (voc / 'split.txt').write_bytes(LISTS[name])
    assert [info['img_id'] for info in map(dataset(voc).get_data_info, (0, 1))] == ['a_01', 'a_03']


BAD_LISTS = {
    'empty': (b'', 'empty split: .*no image is listed'),
    'blank': (b'\n \r\n', 'empty split'),
    'twice': (b'a_01\na_02\na_01\n', 'duplicate id: a_01: occurs 2 times'),
    'not there': (b'a_01\nb_01\n', r'missing image: .*b_01\.jpg'),
    'not text': ('a_01\nschön\n'.encode('latin1'), r'split\.txt: not UTF-8 text'),
    '16-bit text': ('a_01\n'.encode('utf-16'), 'not UTF-8 text'),
    'above': (b'a_01\n../../etc/x\n', r"split\.txt, line 2: '\.\./\.\./etc/x' leads out of the folder"),
    'above inside': (b'a_01\n\nb/../../x\n', 'line 3: .* leads out'),
    'absolute': (b'/etc/passwd\n', 'line 1: .* leads out'),
    'pairs of paths': (b'/JPEGImages/a_01.jpg /SegmentationClass/a_01.png\n', 'line 1: .* leads out'),
    'drive': (b'a_01\nC:\\a_02\n', 'line 2: .* leads out'),
    'backslashes': (b'..\\a_02\n', 'line 1: .* leads out'),
    'zero byte': (b'a_01\na\x00b\n', 'line 2: .* leads out'),
}


@pytest.mark.parametrize('name', BAD_LISTS)
def test_lists_that_do_not(voc: Path, name: str) -> None:
    content, message = BAD_LISTS[name]
    (voc / 'split.txt').write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        dataset(voc)


@pytest.mark.parametrize('image_id', ['two words', 'Straße_Übung', '猫 01', "o'clock, #7", 'a.b.jpg.c', 'sub folder/x'])
def test_names_that_work(voc: Path, image_id: str) -> None:
    for folder in ('JPEGImages', 'SegmentationClass'):
        (voc / folder / image_id).parent.mkdir(exist_ok=True)
    save_pair(voc, image_id, [8])
    (voc / 'split.txt').write_text(f'{image_id}\n', encoding='utf-8')
    (voc / 'labels.json').write_text(f'{{"{image_id}": ["cat"]}}', encoding='utf-8')
    for source in ('mask', dict(type='FileLabels', path='labels.json')):
        item = dataset(voc, label_source=source)[0]
        assert item['img_id'] == image_id
        assert item['img'].shape == (*SIZE[::-1], 3)
        assert np.flatnonzero(item['image_labels']).tolist() == [7]


def test_links_are_followed(voc: Path) -> None:
    elsewhere = voc / 'elsewhere.jpg'
    (voc / 'JPEGImages' / 'a_01.jpg').rename(elsewhere)
    os.symlink(elsewhere, voc / 'JPEGImages' / 'a_01.jpg')
    assert len(dataset(voc)) == len(LABELS)


def test_the_limit_of_pixels(monkeypatch: pytest.MonkeyPatch, voc: Path) -> None:
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', SIZE[0] * SIZE[1] // 2 - 1)
    with pytest.raises(DatasetError, match=r'4 problem\(s\).*\(unreadable image: 4\)[\s\S]*exceeds limit'):
        dataset(voc, label_source=None, data_prefix=dict(seg_map_path=None), pipeline=LOAD[:1])
    with pytest.raises(Image.DecompressionBombError):
        decode_image(PNG)
    assert decode_image(encoded(PICTURE.crop((0, 0, 5, 5)), 'PNG')).shape == (5, 5, 3)


# Corrupt files in the middle of a run


def images_of(data: Any, count: int, workers: int = 0) -> list[tuple[str, np.ndarray, float]]:
    """Id, pixels and a random number of the first ``count`` items that a sampler draws."""
    sampler = ResumableInfiniteSampler(data, seed=3)
    loader = DataLoader(data, batch_size=2, sampler=sampler, num_workers=workers, collate_fn=list)
    batches = [batch for batch, _ in zip(loader, range(count // 2))]
    return [(item['img_id'], item['img'], item['number']) for batch in batches for item in batch]


class _Number:
    """Pipeline step that draws."""

    def __call__(self, results: dict) -> dict:
        return dict(results, number=float(np.random.random()))


def many(voc: Path, **settings: Any) -> WeakVOCDataset:
    ids = [f'm_{number}' for number in range(12)]
    for number, image_id in enumerate(ids):
        save_pair(voc, image_id, [1 + number])
    (voc / 'many.txt').write_text('\n'.join(ids))
    return dataset(voc, ann_file='many.txt', pipeline=[LOAD[0], _Number()], **settings)


@pytest.fixture(params=['cut', 'gone'])
def breaks(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """Make a file unreadable."""
    return (lambda path: path.write_bytes(path.read_bytes()[:300])) if request.param == 'cut' else Path.unlink


def test_a_run_goes_on(voc: Path, breaks: Callable[[Path], None]) -> None:
    data = many(voc, skip_corrupt=True)
    whole = images_of(data, 24)
    assert data.corrupt_images == []
    for name in ('m_3', 'm_7'):
        breaks(voc / 'JPEGImages' / f'{name}.jpg')
    found = images_of(data, 24)
    assert [path[-7:] for path in data.corrupt_images] == ['m_3.jpg', 'm_7.jpg']
    assert {name for name, _, _ in found} == {f'm_{n}' for n in range(12)} - {'m_3', 'm_7'}
    for before, after in zip(whole, found):
        if before[0] not in ('m_3', 'm_7'):  # all others are as if nothing had happened
            assert before[0] == after[0]
            assert before[2] == after[2]
            assert np.array_equal(before[1], after[1])
    again = many_again(voc)
    for first, second in zip(found, images_of(again, 24, workers=2)):
        assert first[0] == second[0]
        assert first[2] == second[2]
    assert [path[-7:] for path in again.corrupt_images] == ['m_3.jpg', 'm_7.jpg']
    assert corrupt_images(ConcatDataset([data, many_again(voc)])) == data.corrupt_images * 2


def many_again(voc: Path) -> WeakVOCDataset:
    """The data of :func:`many` as a resumed run opens them."""
    return dataset(voc, ann_file='many.txt', pipeline=[LOAD[0], _Number()], skip_corrupt=True)


def test_workers_report(voc: Path) -> None:
    data = many(voc, skip_corrupt=True)
    (voc / 'JPEGImages' / 'm_5.jpg').write_bytes(b'')
    images_of(data, 24, workers=2)
    assert [path[-7:] for path in data.corrupt_images] == ['m_5.jpg']


def test_without_it_the_file_is_named(voc: Path) -> None:
    data = many(voc)
    (voc / 'JPEGImages' / 'm_5.jpg').write_bytes(b'')
    for workers in (0, 1):
        with pytest.raises(DatasetError) as caught:
            images_of(data, 24, workers)
        message = str(caught.value)
        assert message.startswith(('WeakVOCDataset (', 'the image'))
        assert 'm_5.jpg cannot be read: the file is empty; replace the file' in message
        assert '\n' not in message


def test_too_much_is_corrupt(voc: Path) -> None:
    data = many(voc, skip_corrupt=True)
    for path in (voc / 'JPEGImages').iterdir():
        path.write_bytes(b'')
    with pytest.raises(DatasetError, match='100 images in a row cannot be read'):
        data[SampleDraw(2, (0, 2))]
    with pytest.raises(DatasetError, match='12 problem'):
        many_again(voc)


def test_masks_that_are_labels_have_to_be_there(voc: Path) -> None:
    (voc / 'SegmentationClass' / 'a_02.png').write_bytes(b'')
    with pytest.raises(DatasetError, match='unreadable mask'):
        dataset(voc, skip_corrupt=True)
    data = dataset(voc, skip_corrupt=True, label_source=dict(type='FileLabels', path='names.json'))
    assert data[1]['img_id'] != 'a_02'
    assert len(data.corrupt_images) == 1


def test_scores_are_of_all_images(voc: Path) -> None:
    with pytest.raises(ValueError, match='skip_corrupt would score other images'):
        dataset(voc, skip_corrupt=True, test_mode=True)
