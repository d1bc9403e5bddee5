"""Refiners that need no network, against arrays written by the official codes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from vectors import close, load, tensor, vectors

from mmwsss.pseudo_labels.background import power_background
from mmwsss.refiners import PAMR, PAR, RandomWalk, random_walk
from mmwsss.refiners.cells import pool_to_cells, spread_cells


@vectors('cosa', 'par*.npz')
@pytest.mark.parametrize('backend', ['torch', 'numba'])
@pytest.mark.parametrize('grey_levels', [1, 255])
def test_par_is_the_official_one_on_both_ranges_of_images(path: Path, backend: str, grey_levels: int) -> None:
    data = load(path)
    images, maps = tensor(data['img']) * grey_levels, tensor(data['mask'])
    cases = [key.removesuffix('_num_iter') for key in data if key.endswith('_num_iter')]
    assert cases
    for case in cases:
        par = PAR(int(data[f'{case}_num_iter']), data[f'{case}_dilations'].tolist(), backend=backend)
        close(par(images, maps), data[f'{case}_out'], atol=1e-5, rtol=1e-4)


@vectors('acr', 'pamr*.npz')
@pytest.mark.parametrize('backend', ['torch', 'numba'])
def test_pamr_is_the_official_one(path: Path, backend: str) -> None:
    data = load(path)
    pamr = PAMR(int(data['num_iter']), data['dilations'].tolist(), backend=backend)
    close(pamr(tensor(data['image']), tensor(data['mask'])), data['out'], atol=1e-5)


@vectors('pmm', 'random_walk*.npz')
def test_random_walk_is_the_official_one(path: Path) -> None:
    data = load(path)
    size, affinity = tuple(data['image_hw'].tolist()), tensor(data['aff_dense'])
    runs = [match for match in (re.fullmatch(r'rw_([\d.]+)_([\d.]+)_(\d+)', key) for key in data) if match]
    assert runs
    for run in runs:
        alpha, beta, logt = float(run[1]), float(run[2]), int(run[3])
        expected = data[run[0]]
        maps = torch.zeros(1, expected.shape[1] - 1, *size)
        maps[0, tensor(data['classes'])] = tensor(data['cams'])
        refiner = RandomWalk(beta=beta, logt=logt)
        maps = power_background(maps, alpha)
        pooled = pool_to_cells(maps, refiner.stride)
        tolerance = 1e-5 * expected.max()
        for matrix in (affinity[None], affinity.to_sparse_csr()):
            close(random_walk(matrix, pooled, beta, logt), expected, atol=tolerance)

        labels = torch.zeros(1, maps.shape[1] - 1)
        labels[0, tensor(data['classes'])] = 1
        walked = refiner(torch.zeros(1, 3, *size), maps, labels, affinity=affinity[None])
        close(walked, spread_cells(tensor(expected), refiner.stride, size), atol=tolerance)
        close(walked.argmax(dim=1)[0], data[run[0].replace('rw_', 'label_')])
