"""Realignment of maps and attention after every transform."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmwsss.ops import TRANSFORMS, check_transform, move, realign_attention, realign_maps

GRIDS = [(3, 5), (5, 2), (4, 4), (1, 3)]
TURNED = ('rot90', 'rot270', 'transpose')


def toy_attention(images: Tensor, extra: int = 1) -> tuple[Tensor, tuple[int, int]]:
    """Attention (B, E + N, E + N) of a network that knows no places: equivariant under any order of its patches."""
    batch, _, *grid = images.shape
    tokens = images.flatten(2).transpose(1, 2)
    special = torch.linspace(-1, 1, extra * tokens.shape[2]).view(extra, tokens.shape[2]).expand(batch, -1, -1)
    tokens = torch.cat((special, tokens), dim=1).double()
    return (tokens @ tokens.transpose(1, 2)).softmax(dim=-1), tuple(grid)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('transform', TRANSFORMS)
def test_maps_come_back(transform: str, grid: tuple[int, int]) -> None:
    maps = torch.randn(2, 3, *grid)
    moved = move(maps, transform)
    assert moved.shape[-2:] == (grid[::-1] if transform in TURNED else grid)
    assert torch.equal(realign_maps(moved, transform), maps)


@pytest.mark.parametrize('extra', [0, 1, 2])
@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('transform', TRANSFORMS)
def test_attention_of_an_equivariant_network_comes_back(transform: str, grid: tuple[int, int], extra: int) -> None:
    images = torch.randn(2, 4, *grid)
    expected, _ = toy_attention(images, extra)
    moved, moved_grid = toy_attention(move(images, transform), extra)
    found = realign_attention(moved, moved_grid, transform, num_extra_tokens=extra)
    torch.testing.assert_close(found, expected)
    order = torch.arange(grid[0] * grid[1])
    moves = not torch.equal(move(order.view(grid), transform).flatten(), order)
    assert torch.allclose(moved, expected) != moves


def test_any_leading_dimensions_and_gradient() -> None:
    attention = torch.randn(2, 3, 4, 7, 7, requires_grad=True)
    found = realign_attention(attention, (2, 3), 'hflip')
    for i in range(2):
        assert torch.equal(found[i], realign_attention(attention[i], (2, 3), 'hflip'))
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    assert torch.equal(realign_attention(attention.grad, (2, 3), 'hflip'), weights)


def test_a_mirrored_row_by_hand() -> None:
    found = realign_attention(torch.arange(16.0).view(4, 4), (1, 3), 'hflip')
    assert found.tolist() == [[0, 3, 2, 1], [12, 15, 14, 13], [8, 11, 10, 9], [4, 7, 6, 5]]


def test_rotations_are_opposite() -> None:
    maps = torch.arange(6).view(2, 3)
    assert move(maps, 'rot90').tolist() == [[2, 5], [1, 4], [0, 3]]
    assert torch.equal(move(move(maps, 'rot90'), 'rot270'), maps)
    assert torch.equal(move(move(maps, 'rot90'), 'rot90'), move(maps, 'rot180'))


def test_transforms_that_lose_patches_are_refused() -> None:
    assert check_transform('vflip') == 'vflip'
    with pytest.raises(ValueError, match=r"transform has to be one of \('hflip'.*which keep all patches, got 'crop'"):
        check_transform('crop')
