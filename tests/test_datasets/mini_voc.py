"""Building blocks of the mini VOC that the tests generate: four images whose labels are known."""

import json
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

import mmwsss  # noqa: F401
from mmwsss.datasets import WeakVOCDataset

CLASSES = WeakVOCDataset.METAINFO['classes']
LABELS = {'a_01': [8], 'a_02': [12, 15], 'a_03': [], 'a_04': [8, 12, 20]}


def save_pair(root: Path, image_id: str, indices: list[int], size: tuple[int, int] = (24, 16)) -> None:
    rng = np.random.default_rng(zlib.crc32(image_id.encode()))
    width, height = size
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[0] = 255
    for row, index in enumerate(indices, start=1):
        mask[row, :5] = index
    picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(picture).save(root / 'JPEGImages' / f'{image_id}.jpg')
    Image.fromarray(mask).save(root / 'SegmentationClass' / f'{image_id}.png')


def write_xml(root: Path, image_id: str, names: list[str], difficult: tuple[str, ...] = ()) -> None:
    objects = ''.join(
        f'<object><name>{name}</name><difficult>{int(name in difficult)}</difficult>'
        '<part><name>head</name></part></object>'
        for name in names
    )
    (root / 'Annotations' / f'{image_id}.xml').write_text(f'<annotation>{objects}</annotation>')


def write_coco(path: Path, names: dict[str, list[str]]) -> None:
    ids = {name: 3 * index + 1 for index, name in enumerate(CLASSES[1:])}
    content = {
        'images': [{'id': i, 'file_name': f'train/{key}.jpg'} for i, key in enumerate(names)],
        'annotations': [
            {'image_id': i, 'category_id': ids[name]} for i, row in enumerate(names.values()) for name in row * 2
        ],
        'categories': [{'id': number, 'name': name} for name, number in ids.items()],
    }
    path.write_text(json.dumps(content))
