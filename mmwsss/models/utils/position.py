"""Interpolation of learned position embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmwsss.ops import resize_matrices, tf_bicubic_matrix

INTERPOLATIONS = ('tf', 'torch', 'bilinear')


def resize_position_embedding(
    pos_embed: Tensor, source: tuple[int, int], target: tuple[int, int], mode: str = 'tf', num_extra_tokens: int = 1
) -> Tensor:
    """Interpolate position embeddings (1, E + h*w, D) from the grid ``source`` to ``target``, both (rows, columns).

    Args:
        mode: 'tf' is the bicubic rule of TensorFlow 2, under which ViT-PCM was trained and tested; 'torch' is
            ``F.interpolate(mode='bicubic')`` without aligned corners, 'bilinear' the same with that mode (ACR).
        num_extra_tokens: leading tokens that have no place on the grid and stay as they are.
    """
    if tuple(source) == tuple(target):
        return pos_embed
    extra, grid = pos_embed[:, :num_extra_tokens], pos_embed[:, num_extra_tokens:]
    grid = grid.transpose(1, 2).unflatten(2, tuple(source))  # 1 N D -> 1 D h w
    if mode == 'tf':
        grid = resize_matrices(grid, *(tf_bicubic_matrix(n_in, n_out) for n_in, n_out in zip(source, target)))
    else:
        rule = 'bicubic' if mode == 'torch' else mode
        grid = F.interpolate(grid.float(), size=tuple(target), mode=rule, align_corners=False).to(grid)
    return torch.cat((extra, grid.flatten(2).transpose(1, 2)), dim=1)
