"""Convolutional stem of TokenViT."""

from __future__ import annotations

import pytest
import torch

from mmwsss.models.backbones import TokenViT
from mmwsss.models.backbones.conv_stem import ConvStem

TINY = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16)


def test_grid_and_tokens() -> None:
    stem = ConvStem((32, 48), patch_size=8, embed_dims=16)
    tokens, grid = stem(torch.randn(2, 3, 32, 48))
    assert stem.init_out_size == grid == (4, 6)
    assert tokens.shape == (2, 24, 16)


def test_first_token_sees_the_first_corner_only() -> None:
    stem = ConvStem((64, 64), patch_size=8, embed_dims=16).eval()
    image = torch.randn(1, 3, 64, 64)
    changed = image.clone()
    changed[..., 48:, 48:] += 1
    before, after = stem(image)[0], stem(changed)[0]
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, -1], after[:, -1])


def test_patch_size_has_to_be_a_power_of_two() -> None:
    with pytest.raises(ValueError, match='power of 2, got 12'):
        ConvStem((48, 48), patch_size=12, embed_dims=16)


def test_backbone_with_stem_trains_and_is_not_deterministic() -> None:
    backbone = TokenViT(TINY, img_size=16, patch_size=4, stem='conv')
    backbone(torch.randn(2, 3, 16, 24))[0].square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in backbone.patch_embed.parameters() if p.dim() > 1)
    assert not backbone.is_deterministic
    assert TokenViT(TINY, img_size=16, patch_size=4).is_deterministic
    with pytest.raises(ValueError, match="stem has to be 'linear', 'conv' or a config, got 'deep'"):
        TokenViT(TINY, img_size=16, patch_size=4, stem='deep')


def test_norm_eval_freezes_the_statistics_but_not_the_scale() -> None:
    backbone = TokenViT(TINY, img_size=16, patch_size=4, stem='conv', norm_eval=True).train()
    norms = backbone.batch_norms
    before = [norm.running_mean.clone() for norm in norms]
    images = torch.randn(2, 3, 16, 16) + 3
    features = backbone(images)[0]
    features.square().sum().backward()
    assert norms
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before))
    assert all(norm.weight.grad is not None for norm in norms)
    assert backbone.is_deterministic
    assert backbone.training
    torch.testing.assert_close(backbone.eval()(images)[0], features)
