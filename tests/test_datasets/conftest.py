"""A generated mini VOC, whose labels stand in masks, XML and label files alike."""

import json
from pathlib import Path

import numpy as np
import pytest
from mini_voc import CLASSES, LABELS, save_pair, write_coco, write_xml


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Root of a mini VOC with split.txt and every kind of label file."""
    for folder in ('JPEGImages', 'SegmentationClass', 'Annotations'):
        (tmp_path / folder).mkdir()
    for image_id, indices in LABELS.items():
        save_pair(tmp_path, image_id, indices)
        write_xml(tmp_path, image_id, [CLASSES[index] for index in indices])
    (tmp_path / 'split.txt').write_text(''.join(f'{image_id}\n' for image_id in LABELS) + '\n')
    names = {image_id: [CLASSES[index] for index in indices] for image_id, indices in LABELS.items()}
    vectors = {image_id: np.isin(np.arange(1, 21), indices).astype(np.float32) for image_id, indices in LABELS.items()}
    np.save(tmp_path / 'labels.npy', vectors, allow_pickle=True)
    by_number = {int(key[2:]): np.concatenate([[1], vector]) for key, vector in vectors.items()}
    np.save(tmp_path / 'numbers.npy', by_number, allow_pickle=True)
    (tmp_path / 'names.json').write_text(json.dumps(names))
    (tmp_path / 'vectors.json').write_text(json.dumps({key: vector.tolist() for key, vector in vectors.items()}))
    (tmp_path / 'labels.csv').write_text(''.join(f'{key}.jpg,{" ".join(row)}\n' for key, row in names.items()))
    lines = [f'{key} {name}' for key, row in names.items() for name in row or ['']]
    (tmp_path / 'labels.txt').write_text('\n'.join(lines))
    write_coco(tmp_path / 'instances.json', names)
    return tmp_path
