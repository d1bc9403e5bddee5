"""The network of CoSA written plainly, as single-paper repositories do."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainOutputs(NamedTuple):
    """Image logits (B, K), maps (B, K, h, w) and segmentation logits (B, K + 1, h, w) of one network."""

    image_logits: Tensor
    aux_image_logits: Tensor
    cam: Tensor
    aux_cam: Tensor
    logits: Tensor


class PlainAttention(nn.Module):
    """Softmax attention with the matrix of all pairs written out, as in the ViT of the time."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, points, width = x.shape
        qkv = self.qkv(x).reshape(batch, points, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, points, width))


class PlainBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = PlainAttention(width, heads)
        self.ln2 = nn.LayerNorm(width, eps=1e-6)
        self.ffn = nn.Module()
        self.ffn.layers = nn.ModuleList((nn.Sequential(nn.Linear(width, hidden)), nn.Linear(hidden, width)))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        return x + self.ffn.layers[1](F.gelu(self.ffn.layers[0](self.ln2(x))))


class PlainNetwork(nn.Module):
    """ViT, two classifiers and LargeFOV; parts are named as in :class:`CoSANetwork`, so that its weights load.

    Args:
        like: network of ours with the sizes and the weights.
    """

    def __init__(self, like: nn.Module) -> None:
        super().__init__()
        theirs = like.backbone
        width, heads = theirs.embed_dims, theirs.layers[0].attn.num_heads
        hidden = theirs.layers[0].ffn.layers[1].in_features
        self.patch, self.grid = theirs.patch_size, theirs.patch_resolution
        self.aux_index = theirs.out_indices[0]
        self.backbone = nn.Module()
        self.backbone.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.backbone.pos_embed = nn.Parameter(torch.zeros_like(theirs.pos_embed), requires_grad=False)
        self.backbone.patch_embed = nn.Module()
        self.backbone.patch_embed.projection = nn.Conv2d(3, width, self.patch, stride=self.patch)
        self.backbone.layers = nn.ModuleList(PlainBlock(width, heads, hidden) for _ in theirs.layers)
        self.backbone.ln1 = nn.LayerNorm(width, eps=1e-6)
        classes, channels, dilation = like.head.num_classes, like.decode_head.channels, like.decode_head.dilation
        for name in ('head', 'aux_head'):
            setattr(self, name, nn.Module())
            getattr(self, name).classifier = nn.Conv2d(width, classes - 1, 1, bias=False)
        self.decode_head = nn.Module()
        wide = dict(kernel_size=3, padding=dilation, dilation=dilation, bias=False)
        self.decode_head.conv6 = nn.Conv2d(width, channels, **wide)
        self.decode_head.conv7 = nn.Conv2d(channels, channels, **wide)
        self.decode_head.conv_seg = nn.Conv2d(channels, classes, 1, bias=False)
        self.load_state_dict(like.state_dict())

    def forward(self, images: Tensor) -> PlainOutputs:
        aux, final = self.encode(images)
        decoder = self.decode_head
        hidden = F.relu(decoder.conv7(F.relu(decoder.conv6(final))))
        return PlainOutputs(
            self.head.classifier(F.adaptive_max_pool2d(final, 1)).flatten(1),
            self.aux_head.classifier(F.adaptive_max_pool2d(aux, 1)).flatten(1),
            F.conv2d(final, self.head.classifier.weight),
            F.conv2d(aux, self.aux_head.classifier.weight),
            decoder.conv_seg(hidden),
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, D, h, w) of the intermediate block and, normed, of the last one."""
        vit = self.backbone
        x = vit.patch_embed.projection(images)
        size = x.shape[-2:]
        x = torch.cat((vit.cls_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)), dim=1)
        places = vit.pos_embed[:, 1:].transpose(1, 2).reshape(1, -1, *self.grid)
        places = F.interpolate(places, size=size, mode='bicubic', align_corners=False).flatten(2).transpose(1, 2)
        x = x + torch.cat((vit.pos_embed[:, :1], places), dim=1)
        for index, block in enumerate(vit.layers):
            x = block(x)
            if index == self.aux_index:
                aux = x
        return tuple(part[:, 1:].transpose(1, 2).reshape(len(x), -1, *size) for part in (aux, vit.ln1(x)))
