"""Poolings from patch scores (B, C, h, w) to image scores (B, C), in one registry for every head."""

from __future__ import annotations

from torch import Tensor, nn

from mmwsss.registry import POOLINGS


def global_max_pool(scores: Tensor) -> Tensor:
    """Maximum over all patches of ``scores`` (B, C, h, w); tied patches share the gradient equally (ViT-PCM)."""
    return scores.amax(dim=(-2, -1))


def global_average_pool(scores: Tensor) -> Tensor:
    """Mean over all patches of ``scores`` (B, C, h, w)."""
    return scores.mean(dim=(-2, -1))


def topk_pool(scores: Tensor, k: int) -> Tensor:
    """Mean of the ``k`` best patches per class of ``scores`` (B, C, h, w); all patches where there are fewer.

    >>> import torch
    >>> topk_pool(torch.tensor([[[[0.1, 0.9], [0.5, 0.2]]]]), k=2)
    tensor([[0.7000]])
    """
    flat = scores.flatten(2)
    return flat.topk(min(k, flat.shape[-1]), dim=-1).values.mean(dim=-1)


@POOLINGS.register_module()
class GlobalMaxPooling(nn.Module):
    """Image score = score of the best patch."""

    def forward(self, scores: Tensor) -> Tensor:
        return global_max_pool(scores)


@POOLINGS.register_module()
class GlobalAveragePooling(nn.Module):
    """Image score = mean score of all patches."""

    def forward(self, scores: Tensor) -> Tensor:
        return global_average_pool(scores)


@POOLINGS.register_module()
class TopKPooling(nn.Module):
    """Image score = mean score of the ``k`` best patches.

    Raises:
        ValueError: ``k`` is below 1.
    """

    def __init__(self, k: int = 6) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f'TopKPooling needs k >= 1, got {k}')
        self.k = k

    def forward(self, scores: Tensor) -> Tensor:
        return topk_pool(scores, self.k)

    def extra_repr(self) -> str:
        return f'k={self.k}'
