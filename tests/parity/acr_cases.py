"""Networks of ACR that the vectors describe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from mmseg.structures import SegDataSample
from official import assert_relative
from torch import Tensor
from vectors import tensor

from mmwsss.models.backbones.hybrid_stem import STEM_STRIDE
from mmwsss.models.segmentors import ACR
from mmwsss.models.utils.acr_weights import convert_acr
from mmwsss.registry import MODELS


def indices(names: Iterable[str], pattern: str) -> int:
    """How many values the number in ``pattern`` has among ``names``."""
    return len({match[1] for name in names if (match := re.match(pattern, name))})


def config(shapes: Mapping[str, Sequence[int]], heads: int, **settings) -> dict:
    """Config of the model whose weights, under our names, have these shapes."""
    dim = shapes['backbone.cls_token'][-1]
    stem, patch = 'linear', shapes['backbone.patch_embed.projection.weight'][-1]
    prefix = 'backbone.patch_embed.backbone.'
    if stages := indices(shapes, rf'{re.escape(prefix)}stages\.(\d+)\.'):
        stem = dict(
            type='HybridStem',
            stem_channels=shapes[f'{prefix}stem.conv.weight'][0],
            channels=[shapes[f'{prefix}stages.{i}.blocks.0.conv3.weight'][0] for i in range(stages)],
            depths=[indices(shapes, rf'{re.escape(prefix)}stages\.{i}\.blocks\.(\d+)\.') for i in range(stages)],
        )
        patch = STEM_STRIDE * 2 ** (stages - 1)
    arch = dict(
        embed_dims=dim,
        num_layers=indices(shapes, r'backbone\.layers\.(\d+)\.'),
        num_heads=heads,
        feedforward_channels=shapes['backbone.layers.0.ffn.layers.0.0.bias'][0],
    )
    side = round((shapes['backbone.pos_embed'][1] - 1) ** 0.5)
    return dict(
        type='ACR',
        backbone=dict(
            type='TokenViT', arch=arch, img_size=side * patch, patch_size=patch, stem=stem, pos_interp='bilinear',
            final_norm=False,
        ),
        head=dict(type='ClassTokenHead', in_channels=dim, num_classes=shapes['head.classifier.bias'][0] + 1),
        loss_cls=dict(type='MultiLabelSoftMarginLoss'),
        **settings,
    )  # fmt: skip


def build(official: Mapping[str, Tensor], heads: int, **settings) -> ACR:
    """The model with official weights, in inference mode."""
    state = convert_acr(official)
    model = MODELS.build(config({name: value.shape for name, value in state.items()}, heads, **settings))
    model.load_state_dict(state)
    return model.eval()


def consistency(alpha: float) -> dict:
    """Both terms with the weight of a file."""
    loss = dict(type='ConsistencyLoss', loss_weight=alpha)
    return dict(type='ViewPairConsistency', loss_activation=loss, loss_affinity=dict(loss))


def samples_of(labels: np.ndarray, **metainfo) -> list[SegDataSample]:
    """One sample for each row of multi-hot labels."""
    samples = []
    for row in labels:
        sample = SegDataSample(metainfo=metainfo)
        sample.image_labels = tensor(row).float()
        samples.append(sample)
    return samples


def assert_forward(model: ACR, data: dict[str, np.ndarray], limit: float) -> None:
    """Assert the outputs of one forward pass that a file of a full or a small network has."""
    encoded = model.backbone.encode(tensor(data['x']), 'all')
    tokens = encoded.tokens[-1]
    maps = model.head.patch_logits(encoded.features[-1])
    assert_relative(tokens, data['tokens_before_final_norm'], limit)
    assert_relative(model.image_logits(encoded), data['cls_logits'], limit)
    assert_relative(maps.flatten(2).mean(dim=2), data['patch_logits'], limit)
    assert_relative(model.head.classifier(tokens[:, 1:].mean(dim=1)), data['patch_logits'], limit)
    assert_relative(maps.relu().flatten(2).transpose(1, 2), data['patch_cam'], limit)
    averaged = [weights.mean(dim=1) for weights in encoded.attention]
    if 'attn' in data:
        assert_relative(torch.stack(averaged, dim=1), data['attn'], limit)
    for key in (key for key in data if key.startswith('attn_layer')):
        assert_relative(averaged[int(key.removeprefix('attn_layer'))], data[key], limit)
