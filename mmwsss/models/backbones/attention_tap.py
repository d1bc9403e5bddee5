"""Softmax weights of chosen attention layers, for methods that read them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AttentionTap(nn.Module):
    """Attention product of one block that keeps its softmax weights while it is open.

    It takes the place of ``scaled_dot_product_attention`` in mmpretrain's ``MultiheadAttention``. Closed, it is the
    fused product of torch; open, the softmax is explicit and costs its matrix of (N + 1)^2 numbers for each head.
    """

    def __init__(self) -> None:
        super().__init__()
        self.close()

    def open(self, probe: bool = False) -> None:
        """Keep the weights of the next call; with ``probe`` make them a variable to differentiate by."""
        self.is_open, self.probe, self.weights = True, probe, None

    def close(self) -> Tensor | None:
        """Stop keeping weights and return those kept, (B, heads, N, N), None without a call."""
        weights = getattr(self, 'weights', None)
        self.is_open, self.probe, self.weights = False, False, None
        return weights

    def forward(self, query: Tensor, key: Tensor, value: Tensor, dropout_p: float = 0.0) -> Tensor:
        """Attention (B, heads, N, d) of ``query``, ``key`` and ``value`` of that shape."""
        if not self.is_open:
            return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout_p)
        weights = (query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)).softmax(dim=-1)
        if self.probe:
            # Adding a leaf of zeros gives a gradient also where no weight of the network takes one.
            weights = weights + torch.zeros_like(weights, requires_grad=True)
        self.weights = weights
        return F.dropout(weights, dropout_p) @ value
