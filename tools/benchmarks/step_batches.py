"""Generated batches for benchmarks of training steps: pictures, image labels, boxes and what single methods need."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from refiner_cases import draw_scene
from torch import Tensor, nn

from mmwsss.models.segmentors import APC, AffinityNetwork, CoSA, ViTPCM
from mmwsss.ops import apply_record
from mmwsss.ops.affine import FLIP_LR, RECORD_LENGTH, SIZE

MOST_PRESENT = 3
CELL = 8


@dataclass(frozen=True)
class Batch:
    """Images of one batch in the two forms that the two sides take, and what belongs to them.

    Args:
        pixels: views (B, 3, h, w) uint8 as our loader hands them out.
        views: the same views normalised, float32.
        labels: (B, K) float32 multi-hot.
        boxes: (B, 4) real pixels as top, bottom, left, right.
        records: (2, B, 9) geometry of both views of ViT-PCM; None for other methods.
        cells: (B, h, w) int64 labels of cells for the affinity network; None for other methods.
    """

    pixels: dict[str, Tensor]
    views: dict[str, Tensor]
    labels: Tensor
    boxes: Tensor
    records: Tensor | None = None
    cells: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch with what the plain procedures read on ``device``; geometry stays on the CPU."""
        moved = {name: view.to(device) for name, view in self.views.items()}
        cells = None if self.cells is None else self.cells.to(device)
        return replace(self, views=moved, labels=self.labels.to(device), cells=cells)

    def data(self) -> dict:
        """What our data preprocessor takes: images of one view or of several, and samples."""
        inputs = {name: list(view) for name, view in self.pixels.items()}
        return dict(
            inputs=inputs if len(inputs) > 1 else inputs['view_1'],
            data_samples=[self._sample(index) for index in range(len(self.labels))],
        )

    def _sample(self, index: int) -> SegDataSample:
        info = dict(img_box=tuple(self.boxes[index].tolist()), num_present=int(self.labels[index].sum()))
        if self.records is not None:
            info |= {f'record_{view + 1}': self.records[view, index].numpy() for view in (0, 1)}
        sample = SegDataSample(metainfo=info)
        sample.image_labels = self.labels[index]
        if self.cells is not None:
            sample.gt_sem_seg = PixelData(data=self.cells[index : index + 1])
        return sample


def draw_batch(model: nn.Module, size: int, crop: int, seed: int) -> Batch:
    """Generated scenes with 1 to 3 classes each, every second one padded on the right, for ``model``.

    The pictures are the same for every method; so are labels, as far as the number of classes is.

    Raises:
        ValueError: half of ``crop``, the side of ViT-PCM's second view, is no multiple of the patches.
    """
    rng = np.random.default_rng(seed)
    scenes = np.stack([draw_scene(crop, crop, seed * size + index) for index in range(size)])
    pixels = torch.from_numpy(scenes.transpose(0, 3, 1, 2).copy())
    classes = model.num_classes - 1 if hasattr(model, 'num_classes') else 20
    labels = torch.zeros(size, classes)
    for row in labels:
        row[rng.choice(classes, rng.integers(1, min(MOST_PRESENT, classes) + 1), replace=False)] = 1
    boxes = torch.tensor([(0, crop, 0, crop)] * size)
    views, more = dict(view_1=pixels), {}
    if isinstance(model, ViTPCM) and not isinstance(model, APC):
        if crop % (2 * model.backbone.patch_size):
            raise ValueError(f'a crop of {crop} pixels; ViT-PCM needs a multiple of {2 * model.backbone.patch_size}')
        views, more['records'] = two_views(pixels, rng)
    elif isinstance(model, AffinityNetwork):
        more['cells'] = draw_cells(size, crop // CELL, rng)
    else:
        boxes[1::2, 3] = crop - crop // 8
        pixels[1::2, :, :, crop - crop // 8 :] = 0
    if isinstance(model, CoSA):
        views['view_2'] = (2 * (pixels.float() - 128) + 128).clamp(0, 255).to(torch.uint8)
    return Batch(views, normalized(model, views), labels, boxes, **more)


def normalized(model: nn.Module, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
    """Views as the network takes them, float32 on the CPU, from ``pixels`` as the loader has them."""
    settings = model.data_preprocessor
    mean, std = (part.cpu() for part in (settings.mean, settings.std))
    return {name: (view.flip(1).float() - mean) / std for name, view in pixels.items()}


def two_views(pixels: Tensor, rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
    """Views 1, and views 2 of half the size, each mirrored at random, and their records (2, B, 9)."""
    records = torch.zeros(2, len(pixels), RECORD_LENGTH)
    records[:, :, FLIP_LR] = torch.from_numpy(rng.integers(0, 2, (2, len(pixels)))).float()
    records[1, :, SIZE] = pixels.shape[-1] // 2
    views = [apply_record(pixels.float(), own).round().clamp(0, 255).to(torch.uint8) for own in records]
    return dict(view_1=views[0], view_2=views[1]), records


def draw_cells(size: int, side: int, rng: np.random.Generator) -> Tensor:
    """Labels (B, h, w) of cells: background, one object of a class, and a band between them that is ignored."""
    rows, columns = np.mgrid[:side, :side]
    cells = np.zeros((size, side, side), dtype=np.int64)
    for own in cells:
        centre = rng.uniform(0.3, 0.7, 2) * side
        distance = np.hypot(rows - centre[0], columns - centre[1])
        own[distance < 0.4 * side] = 255
        own[distance < 0.3 * side] = rng.integers(1, 21)
    return torch.from_numpy(cells)
