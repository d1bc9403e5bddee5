"""Bringing what a network says about a moved image back to the places of the image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# How each transform moves (..., H, W), and back.
TRANSFORMS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    'hflip': (lambda x: x.flip(-1), lambda x: x.flip(-1)),
    'vflip': (lambda x: x.flip(-2), lambda x: x.flip(-2)),
    'rot90': (lambda x: x.rot90(1, (-2, -1)), lambda x: x.rot90(-1, (-2, -1))),
    'rot180': (lambda x: x.rot90(2, (-2, -1)), lambda x: x.rot90(2, (-2, -1))),
    'rot270': (lambda x: x.rot90(-1, (-2, -1)), lambda x: x.rot90(1, (-2, -1))),
    'transpose': (lambda x: x.transpose(-2, -1), lambda x: x.transpose(-2, -1)),
}


def check_transform(name: str) -> str:
    """Return ``name`` if it is one of :data:`TRANSFORMS`.

    Raises:
        ValueError: it is not.
    """
    if name not in TRANSFORMS:
        raise ValueError(f'transform has to be one of {tuple(TRANSFORMS)}, which keep all patches, got {name!r}')
    return name


def move(maps: Tensor, transform: str) -> Tensor:
    """Apply ``transform`` to images or maps (..., H, W)."""
    return TRANSFORMS[transform][0](maps)


def realign_maps(maps: Tensor, transform: str) -> Tensor:
    """Undo ``transform`` on maps (..., h, w) of moved images."""
    return TRANSFORMS[transform][1](maps)


def realign_attention(attention: Tensor, grid: tuple[int, int], transform: str, num_extra_tokens: int = 1) -> Tensor:
    """Bring the attention between the patches of moved images to the order of the patches before (ACR, sec. 3).

    Rows and columns are permuted alike; leading tokens without a place, such as the class token, stay where they are.

    Args:
        attention: (..., E + h*w, E + h*w), its patches row by row.
        grid: (h, w) of the moved images.
        transform: key of :data:`TRANSFORMS` that moved them.
        num_extra_tokens: E.

    Returns:
        attention of the same shape, its patches in the order of the images before they were moved.
    """
    order = torch.arange(grid[0] * grid[1], device=attention.device).view(grid) + num_extra_tokens
    extra = torch.arange(num_extra_tokens, device=attention.device)
    order = torch.cat((extra, realign_maps(order, transform).flatten()))
    return attention[..., order, :][..., order]
