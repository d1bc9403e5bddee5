"""Class maps from the gradient of a class token's logit with respect to the attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmwsss.models.backbones.token_vit import TokenViT

FORMS = ('grad', 'grad_s', 'cam_grad', 'cam_grad_s')


def block_map(gradient: Tensor, attention: Tensor, form: str) -> Tensor:
    """Relevance (..., N, N) of one block from gradient and attention (..., heads, N, N) (ACR, sec. 7).

    Args:
        form: 'grad' is the mean over heads of the positive gradient, 'grad_s' its square, 'cam_grad' the mean of the
            positive product with the attention, and 'cam_grad_s' that times 'grad'.
    """
    if form in ('grad', 'grad_s'):
        mean = gradient.relu().mean(dim=-3)
        return mean if form == 'grad' else mean**2
    mean = (gradient * attention).relu().mean(dim=-3)
    return mean if form == 'cam_grad' else mean * gradient.relu().mean(dim=-3)


def attention_affinity(attention: Sequence[Tensor]) -> Tensor:
    """Affinity (B, N, N) of patches: their attention summed over layers, averaged over heads, not normalised."""
    return sum(weights.mean(dim=1)[:, 1:, 1:] for weights in attention)


def spread_by_affinity(maps: Tensor, affinity: Tensor) -> Tensor:
    """Maps (B, C, h, w) as the affinity (B, N, N) spreads them once: each patch sums what it attends to."""
    return torch.einsum('bij,bcj->bci', affinity, maps.flatten(2)).view_as(maps)


def class_token_maps(
    backbone: TokenViT,
    classify: Callable[[Tensor], Tensor],
    tokens: Tensor,
    grid: tuple[int, int],
    classes: Tensor,
    start: int,
    form: str = 'grad',
) -> Tensor:
    """Class maps (B, P, h, w), not negative, of chosen classes (ACR, sec. 7).

    The blocks from ``start`` on run forward and backward on one copy of an image for each of its classes, all in one
    batch: with P classes and L blocks that costs about 3 P (L - start) / L forward passes of the network, and the
    memory of their attention. Gradients are enabled inside, whatever the caller does; weights get none.

    Args:
        classify: tokens (B, 1 + N, D) that leave the last block to logits (B, K).
        tokens: (B, 1 + N, D) that enter block ``start``.
        grid: (h, w).
        classes: (B, P) int64.
        start: first of the blocks whose relevances are summed up, from 0.
        form: see :func:`block_map`.
    """
    batch, slots = classes.shape
    with torch.inference_mode(False), torch.enable_grad():
        copies = tokens.detach().clone().repeat_interleave(slots, dim=0)
        blocks = range(start, backbone.num_layers)
        out, attention = backbone.run_blocks(copies, start, backbone.num_layers, blocks, probe=True)
        chosen = classify(out).gather(1, classes.clone().view(-1, 1))
        gradients = torch.autograd.grad(chosen.sum(), attention)
    relevance = sum(
        block_map(gradient[..., :1, 1:], weights.detach()[..., :1, 1:], form)
        for gradient, weights in zip(gradients, attention)
    )
    return relevance.float().view(batch, slots, *grid)
