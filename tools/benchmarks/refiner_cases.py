"""What the benchmark of the refiners runs: images, maps, our side and the reference of every case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from refiner_references import pydensecrf_marginals, pydensecrf_name, reference_par, reference_walk
from torch import Tensor

import mmwsss  # noqa: F401  (closes the version gaps before mmseg is imported)
from mmwsss.refiners import PAR, ColourAffinity, DenseCRF, random_walk
from mmwsss.refiners.cells import pool_to_cells

SUFFIXES = ('.jpg', '.jpeg', '.png')
DILATIONS = (1, 2, 4, 8, 12, 24)
ITERATIONS = 10
CRF = dict(gaussian_weight=3.0, gaussian_xy=1.0, bilateral_weight=4.0, bilateral_xy=67.0, bilateral_rgb=3.0)
WALK = dict(beta=8.0, logt=6)
CELL = 8
Work = Callable[[], Tensor]


@dataclass(frozen=True)
class Case:
    """One comparison on images of ``height`` x ``width`` pixels; ``present`` of the ``channels`` are not empty."""

    name: str
    kind: str
    height: int
    width: int
    channels: int
    present: int


CASES = (
    Case('par_448_c3', 'par', 448, 448, 3, 3),
    Case('par_448_c21', 'par', 448, 448, 21, 21),
    Case('crf_375x500_c21', 'crf', 375, 500, 21, 21),
    Case('crf_480x640_c81', 'crf', 480, 640, 81, 6),
    Case('randomwalk_375x500_c21', 'walk', 375, 500, 21, 21),
)


def draw_scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Picture (H, W, 3) uint8 of textured discs on a shaded ground, the same for the same arguments."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    scene = 90 + 80 * (y / height)[..., None] * rng.uniform(0.4, 1, 3)
    for _ in range(12):
        centre, radius = rng.uniform(0, 1, 2) * (height, width), rng.uniform(0.08, 0.25) * min(height, width)
        inside = np.hypot(y - centre[0], x - centre[1]) < radius
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, 20)
        waves = 20 * np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
        scene[inside] = (rng.uniform(20, 235, 3) + waves[..., None])[inside]
    return (scene + rng.normal(0, 6, scene.shape)).clip(0, 255).astype(np.uint8)


def load_images(folder: Path | None, count: int, height: int, width: int) -> list[Tensor]:
    """Images (1, 3, H, W) uint8: the first ``count`` of ``folder`` at that size, or generated scenes without a folder.

    Raises:
        FileNotFoundError: the folder holds no picture.
    """
    if folder is None:
        pictures = [draw_scene(height, width, seed) for seed in range(count)]
    else:
        files = sorted(path for path in folder.glob('*') if path.suffix.lower() in SUFFIXES)[:count]
        if not files:
            raise FileNotFoundError(f'{folder}: no {", ".join(SUFFIXES)} file; give a folder of photographs')
        pictures = [np.array(Image.open(path).convert('RGB').resize((width, height))) for path in files]
    return [torch.from_numpy(picture.transpose(2, 0, 1).copy())[None] for picture in pictures]


def draw_maps(case: Case, device: torch.device) -> tuple[Tensor, Tensor]:
    """Probabilities (1, C, H, W), smooth and 0 in absent channels, and image labels (1, C - 1); channel 0 always is."""
    generator = torch.Generator().manual_seed(case.channels)
    coarse = torch.randn(1, case.present, -(-case.height // 16), -(-case.width // 16), generator=generator)
    smooth = F.interpolate(coarse, size=(case.height, case.width), mode='bilinear')
    maps = torch.zeros(1, case.channels, case.height, case.width)
    maps[:, : case.present] = (3 * smooth).softmax(dim=1)
    labels = (torch.arange(1, case.channels) < case.present).float()[None]
    return maps.to(device), labels.to(device)


def prepare_par(case: Case, image: Tensor, ours: bool) -> Work:
    maps, labels = draw_maps(case, image.device)
    if ours:
        refiner = PAR(ITERATIONS, DILATIONS)
        return lambda: refiner(image, maps, labels)
    return lambda: reference_par(image.float(), maps, DILATIONS, ITERATIONS)


def prepare_crf(case: Case, image: Tensor, ours: bool) -> Work:
    maps, labels = draw_maps(case, image.device)
    if ours or pydensecrf_name() is None:
        refiner = DenseCRF(iterations=ITERATIONS, backend='auto' if ours else 'torch', **CRF)
        return lambda: refiner(image, maps, labels)
    picture, probabilities = image[0].permute(1, 2, 0).cpu().numpy(), maps[0].cpu().numpy()
    gaussian = CRF['gaussian_weight'], CRF['gaussian_xy']
    bilateral = CRF['bilateral_weight'], CRF['bilateral_xy'], CRF['bilateral_rgb']
    return lambda: torch.from_numpy(pydensecrf_marginals(picture, probabilities, ITERATIONS, gaussian, bilateral))[None]


def prepare_walk(case: Case, image: Tensor, ours: bool) -> Work:
    scores = pool_to_cells(draw_maps(case, image.device)[0], CELL)
    affinity = ColourAffinity()(image, CELL)
    if ours:
        return lambda: random_walk(affinity, scores, **WALK)
    dense = affinity.to_dense()
    return lambda: reference_walk(dense, scores, **WALK)


PREPARE: dict[str, Callable[[Case, Tensor, bool], Work]] = {
    'par': prepare_par,
    'crf': prepare_crf,
    'walk': prepare_walk,
}


def reference_name(kind: str) -> str:
    """What the reference of a kind of case is."""
    crf = pydensecrf_name() or 'our torch backend (pydensecrf is not installed)'
    return {'par': 'a copy for every neighbour', 'crf': crf, 'walk': 'dense matrix squared'}[kind]
