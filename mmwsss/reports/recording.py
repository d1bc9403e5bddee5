"""What a report keeps of every image of an evaluation: small pictures, IoU, and the counts behind them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmwsss.evaluation.confusion import confusion_matrix, iou_from_confusion
from mmwsss.utils.files import write_json

from .pictures import encode_maps, encode_mask, encode_photo

FILE_NAME = 'evaluation.json'
KINDS = {'image': '.webp', 'truth': '.png', 'maps': '.webp', 'pseudo': '.png', 'prediction': '.png'}


@dataclass(frozen=True)
class Evaluation:
    """Recorded evaluation: ``content`` of its JSON file, and the folder in which file and pictures lie."""

    folder: Path
    content: Mapping[str, Any]

    def picture(self, index: int, kind: str) -> Path:
        """Path of the picture ``kind`` of image ``index``; it exists where the image has this kind."""
        return picture_path(self.folder, index, kind)


class Recorder:
    """Keep the images of one evaluation in a folder, one after the other.

    Args:
        folder: an earlier record in it becomes invalid at once, so that a run that is cut leaves none.
        classes, palette: names and RGB colours of all classes, the background first.
        ignore_index: label of pixels that do not count.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        classes: Sequence[str],
        palette: Sequence[Sequence[int]],
        ignore_index: int = 255,
    ) -> None:
        self.folder = Path(folder)
        self.classes, self.palette, self.ignore_index = list(classes), [list(c) for c in palette], ignore_index
        self.images: list[dict[str, Any]] = []
        self.totals: dict[str, torch.Tensor] = {}
        (self.folder / FILE_NAME).unlink(missing_ok=True)
        (self.folder / 'pictures').mkdir(parents=True, exist_ok=True)
        for path in (self.folder / 'pictures').iterdir():
            path.unlink()

    def add(
        self,
        name: str,
        image: np.ndarray,
        truth: np.ndarray | None = None,
        maps: np.ndarray | None = None,
        pseudo: np.ndarray | None = None,
        prediction: np.ndarray | None = None,
    ) -> None:
        """Keep one image.

        Args:
            name: id of the image.
            image: (H, W, 3) uint8 RGB.
            truth, pseudo, prediction: (H, W) classes; ignored pixels may be in the first two.
            maps: (K, H, W), or (K + 1, H, W) with the background first, on the scale 0..1.
        """
        entry: dict[str, Any] = {'name': name, 'size': list(image.shape[:2]), 'truth': None, 'found': {}, 'iou': {}}
        masks = {'truth': truth, 'pseudo': pseudo, 'prediction': prediction}
        pictures = {'image': encode_photo(image), 'maps': None if maps is None else encode_maps(maps, self.palette)}
        for kind, mask in masks.items():
            pictures[kind] = None if mask is None else encode_mask(mask, self.palette, self.ignore_index)
            if mask is None:
                continue
            present = [c for c in np.unique(mask).tolist() if c != self.ignore_index]
            if kind == 'truth':
                entry['truth'] = present
            else:
                entry['found'][kind] = present
                if truth is not None:
                    entry['iou'][kind] = self._iou(kind, mask, truth)
        entry['pictures'] = [kind for kind in KINDS if pictures[kind] is not None]
        for kind in entry['pictures']:
            picture_path(self.folder, len(self.images), kind).write_bytes(pictures[kind])
        self.images.append(entry)

    def finish(self, **record: Any) -> Evaluation:
        """Write the record, with everything in ``record`` besides what was counted; the evaluation is valid then."""
        content = {
            'classes': self.classes,
            'palette': self.palette,
            'confusion': {kind: total.tolist() for kind, total in self.totals.items()},
            'images': self.images,
            **record,
        }
        path = write_json(self.folder / FILE_NAME, content)
        return Evaluation(self.folder, json.loads(path.read_text(encoding='utf-8')))

    def _iou(self, kind: str, mask: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        """Percent IoU of the classes that occur in ``mask`` or ``truth``, and their mean; counts enter the totals."""
        counts = confusion_matrix(
            torch.from_numpy(mask), torch.from_numpy(truth), len(self.classes), self.ignore_index, kind == 'pseudo'
        )
        self.totals[kind] = self.totals.get(kind, 0) + counts
        iou, mean = iou_from_confusion(counts)
        known = (~iou.isnan()).nonzero().flatten().tolist()
        return {
            'mean': None if mean.isnan() else round(100 * float(mean), 2),
            'classes': {str(c): round(100 * float(iou[c]), 2) for c in known},
        }


def picture_path(folder: Path, index: int, kind: str) -> Path:
    """Where a :class:`Recorder` keeps a picture."""
    return folder / 'pictures' / f'{index:05d}_{kind}{KINDS[kind]}'


def read_evaluation(folder: str | os.PathLike) -> Evaluation | None:
    """The evaluation recorded in ``folder``, None where there is none that is complete."""
    try:
        content = json.loads((Path(folder) / FILE_NAME).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return Evaluation(Path(folder), content)
