"""The vision transformer written plainly, as single-paper repositories do."""

from __future__ import annotations

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwsss.models.backbones import TokenViT
from mmwsss.models.utils.position import resize_position_embedding


class PlainAttention(nn.Module):
    """Softmax attention with the matrix of all pairs written out, as in the ViT of the time."""

    def __init__(self, width: int, heads: int, drop_rate: float) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, D) and softmax weights (B, heads, N, N)."""
        batch, points, width = x.shape
        qkv = self.qkv(x).reshape(batch, points, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(dim=-1)
        return self.drop(self.proj((weights @ v).transpose(1, 2).reshape(batch, points, width))), weights


class PlainBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, hidden: int, drop_rate: float) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = PlainAttention(width, heads, drop_rate)
        self.ln2 = nn.LayerNorm(width, eps=1e-6)
        self.ffn = nn.Module()
        self.ffn.layers = nn.ModuleList((nn.Sequential(nn.Linear(width, hidden)), nn.Linear(hidden, width)))
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        moved, weights = self.attn(self.ln1(x))
        x = x + moved
        hidden = self.drop(F.gelu(self.ffn.layers[0](self.ln2(x))))
        return x + self.drop(self.ffn.layers[1](hidden)), weights


class PlainViT(nn.Module):
    """ViT; parts are named as in :class:`TokenViT`, so that its weights load.

    Args:
        like: network of ours with the sizes, the weights and what of it trains.

    Raises:
        ValueError: ``like`` is no :class:`TokenViT`.
    """

    def __init__(self, like: nn.Module) -> None:
        super().__init__()
        if not isinstance(like, TokenViT):
            raise ValueError(f'the backbone is a {type(like).__name__}; the reference only knows TokenViT')
        width, heads = like.embed_dims, like.layers[0].attn.num_heads
        hidden = like.layers[0].ffn.layers[1].in_features
        self.grid, self.rule = like.patch_resolution, like.pos_interp
        self.out_indices = like.out_indices
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros_like(like.pos_embed))
        self.patch_embed = deepcopy(like.patch_embed)  # convolutions are the same on both sides
        self.layers = nn.ModuleList(PlainBlock(width, heads, hidden, like.drop_rate) for _ in like.layers)
        self.ln1 = nn.LayerNorm(width, eps=1e-6) if like.final_norm else nn.Identity()
        copy_weights(self, like)

    def tokens(self, images: Tensor) -> tuple[list[Tensor], list[Tensor], tuple[int, int]]:
        """Tokens (B, 1 + N, D) of the blocks that are read, attention (B, heads, 1 + N, 1 + N) of all, and the grid."""
        x, size = self.patch_embed(images)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)
        x = x + resize_position_embedding(self.pos_embed, self.grid, size, self.rule)
        taken, attention = [], []
        for index, block in enumerate(self.layers):
            x, weights = block(x)
            attention.append(weights)
            if index in self.out_indices:
                taken.append(self.ln1(x) if index == len(self.layers) - 1 else x)
        return taken, attention, size

    def forward(self, images: Tensor) -> list[Tensor]:
        """Patch features (B, D, h, w) of the blocks that are read."""
        taken, _, size = self.tokens(images)
        return [tokens[:, 1:].transpose(1, 2).reshape(len(images), -1, *size) for tokens in taken]


def copy_weights(module: nn.Module, like: nn.Module) -> None:
    """Give ``module`` the weights of ``like``, whose parts have the same names, and train what trains there."""
    module.load_state_dict(like.state_dict())
    trained = {name: weight.requires_grad for name, weight in like.named_parameters()}
    for name, weight in module.named_parameters():
        weight.requires_grad_(trained[name])
