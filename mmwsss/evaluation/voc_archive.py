"""Predictions in the form that the PASCAL VOC test server takes."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmseg.datasets import PascalVOCDataset
from PIL import Image

from mmwsss.registry import METRICS
from mmwsss.utils.files import replacing, write_palette_png

CHALLENGE = 'results/VOC2012/Segmentation/comp6_test_cls'
MAX_LISTED = 5


class ArchiveError(ValueError):
    """The predictions do not make an archive that the server accepts."""


def check_voc_classes(metainfo: Mapping[str, Any]) -> None:
    """Check that ``classes`` and ``palette`` of ``metainfo`` are those of PASCAL VOC.

    Raises:
        ArchiveError: they are not.
    """
    for key in ('classes', 'palette'):
        expected = [_plain(entry) for entry in PascalVOCDataset.METAINFO[key]]
        found = [_plain(entry) for entry in metainfo.get(key) or ()]
        if found != expected:
            raise ArchiveError(
                f'the VOC server takes the {len(expected)} {key} of PASCAL VOC, the dataset has '
                f'{len(found) if len(found) != len(expected) else "others"}; archive predictions of a VOC dataset'
            )


def write_voc_archive(
    masks: str | os.PathLike, out: str | os.PathLike, sizes: Mapping[str, tuple[int, int]], num_classes: int
) -> Path:
    """Pack ``masks/<id>.png`` into the gzipped tar file ``out`` and check what was packed.

    Args:
        masks: folder of PNG files in mode P.
        sizes: (height, width) of every image of the split.
        num_classes: classes with the background.

    Returns:
        ``out``; it appears whole and checked, or not at all.

    Raises:
        ArchiveError: a mask is missing or is not what :func:`verify_voc_archive` asks for.
    """
    missing = [name for name in sizes if not (Path(masks) / f'{name}.png').is_file()]
    _raise_problems(out, [f'{name}: no mask in {masks}' for name in missing])
    with replacing(out) as temporary:
        with tarfile.open(temporary, 'w:gz') as archive:
            for name in sorted(sizes):
                archive.add(Path(masks) / f'{name}.png', f'{CHALLENGE}/{name}.png')
        _raise_problems(out, _archive_problems(temporary, sizes, num_classes))
    return Path(out)


def verify_voc_archive(path: str | os.PathLike, sizes: Mapping[str, tuple[int, int]], num_classes: int) -> None:
    """Open the archive and check its names against ``sizes``, every mask's mode and size, and its values.

    Args:
        sizes: (height, width) of every image of the split.
        num_classes: masks hold 0 to ``num_classes`` - 1; nothing may be ignored.

    Raises:
        ArchiveError: with the number of problems and the first of them.
    """
    _raise_problems(path, _archive_problems(path, sizes, num_classes))


@METRICS.register_module()
class VOCArchive(BaseMetric):
    """Collects ``pred_sem_seg``, which is made without image labels, into an archive for the VOC server.

    It gives no score. Every process writes the masks of its images, the first one packs them.

    Args:
        out: the archive, ``.tar.gz`` or ``.tgz``.

    Raises:
        ArchiveError: the dataset has not the classes and colours of PASCAL VOC; or the packed file fails the check.
    """

    def __init__(self, out: str | os.PathLike, collect_device: str = 'cpu', collect_dir: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix='voc_archive', collect_dir=collect_dir)
        self.out = Path(out)
        self.folder = self.out.with_name(f'.{self.out.name}.masks')
        self._size = 0

    @property
    def dataset_meta(self) -> dict | None:
        """Meta information of the dataset."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        check_voc_classes(dataset_meta)
        self._dataset_meta = dataset_meta

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Write the predicted mask of each sample."""
        for sample in data_samples:
            name = sample.get('img_id') or Path(sample['img_path']).stem
            mask = sample['pred_sem_seg']['data'][0].to('cpu').numpy().astype(np.uint8)
            write_palette_png(self.folder / f'{name}.png', mask, self.dataset_meta['palette'])
            self.results.append((name, tuple(sample['ori_shape'][:2])))

    def evaluate(self, size: int) -> dict[str, float]:
        """Collect what all processes wrote; ``size`` is the number of images of the split."""
        self._size = size
        return super().evaluate(size)

    def compute_metrics(self, results: list[tuple[str, tuple[int, int]]]) -> dict[str, float]:
        """Pack and check the archive; there is no score."""
        sizes = dict(results)
        if len(sizes) != self._size:
            raise ArchiveError(f'{self.out}: {len(sizes)} images were predicted, the split has {self._size}')
        path = write_voc_archive(self.folder, self.out, sizes, len(self.dataset_meta['classes']))
        shutil.rmtree(self.folder)
        print_log(f'VOC archive of {len(sizes)} masks, verified: {path}', logger='current')
        return {}


def _archive_problems(path: str | os.PathLike, sizes: Mapping[str, tuple[int, int]], num_classes: int) -> list[str]:
    expected = {f'{CHALLENGE}/{name}.png': name for name in sizes}
    problems, found = [], set()
    try:
        with tarfile.open(path, 'r:gz') as archive:
            for member in archive:
                if member.name in found:
                    problems.append(f'{member.name}: twice in the archive')
                elif member.name not in expected:
                    problems.append(f'{member.name}: not in the split')
                else:
                    content = archive.extractfile(member)
                    problems += _mask_problems(
                        b'' if content is None else content.read(), expected[member.name], sizes, num_classes
                    )
                found.add(member.name)
    except (tarfile.TarError, EOFError, OSError) as error:
        return [f'no readable tar.gz file: {error}']
    return problems + [f'{name}: missing' for entry, name in expected.items() if entry not in found]


def _mask_problems(content: bytes, name: str, sizes: Mapping[str, tuple[int, int]], num_classes: int) -> list[str]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            mode, mask = image.mode, np.asarray(image)
    except (OSError, SyntaxError) as error:
        return [f'{name}: {error}']
    if mode != 'P':
        return [f'{name}: mode {mode}, expected palette indices (P)']
    problems = []
    if mask.shape != tuple(sizes[name]):
        problems.append(f'{name}: {mask.shape} (height, width), the image is {tuple(sizes[name])}')
    if mask.max(initial=0) >= num_classes:
        problems.append(f'{name}: holds {mask.max()}, expected classes below {num_classes}')
    return problems


def _raise_problems(path: str | os.PathLike, problems: Sequence[str]) -> None:
    if problems:
        raise ArchiveError(f'{path}: {len(problems)} problem(s): {"; ".join(problems[:MAX_LISTED])}')


def _plain(entry: Any) -> Any:
    return entry if isinstance(entry, str) else tuple(entry)
