"""Convolutional part of the hybrid vision transformer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmwsss.models.backbones.hybrid_stem import HybridStem, StdConv2d, pad_same
from mmwsss.registry import MODELS

SMALL = dict(stem_channels=4, groups=2)
TWO = dict(channels=(8, 16), depths=(2, 1), **SMALL)


def stem(patch_size: int = 8, side: int = 32, **settings) -> HybridStem:
    return MODELS.build(
        {**dict(type='HybridStem', img_size=(side, side), patch_size=patch_size, embed_dims=6), **TWO, **settings}
    )


def test_standardised_convolution_is_the_plain_formula() -> None:
    conv, maps = StdConv2d(3, 5, 3), torch.randn(2, 3, 7, 6)
    assert conv.bias is None
    kernel = torch.stack(
        [(w - w.mean()) / (((w - w.mean()) ** 2).mean() ** 0.5 + 1e-5) for w in conv.weight.detach().unbind()]
    )
    torch.testing.assert_close(conv(maps), F.conv2d(maps, kernel, padding=1))
    conv.weight.data = 3 * conv.weight.data + 0.7
    torch.testing.assert_close(conv(maps), F.conv2d(maps, kernel, padding=1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('side', 'kernel', 'stride', 'before', 'after'),
    [(8, 3, 1, 1, 1), (8, 3, 2, 0, 1), (7, 3, 2, 1, 1), (8, 7, 2, 2, 3), (9, 7, 2, 3, 3), (8, 1, 2, 0, 0)],
)
def test_padding_is_that_of_tensorflow(side: int, kernel: int, stride: int, before: int, after: int) -> None:
    maps = torch.randn(1, 1, side, 5)
    padded = pad_same(maps, kernel, stride, value=-3.0)
    assert padded.shape[-2] == side + before + after
    assert (padded[:, :, :before] == -3).all()
    assert (padded[:, :, before + side :] == -3).all()
    inner = padded[..., (padded.shape[-1] - 5) // 2 :][..., :5]
    assert torch.equal(inner[:, :, before : before + side], maps)
    assert F.max_pool2d(padded, kernel, stride).shape[-2] == -(-side // stride)


@pytest.mark.parametrize(
    ('patch_size', 'settings'),
    [
        (4, dict(channels=(8,), depths=(1,))),
        (8, {}),
        (16, dict(channels=(8, 8, 16), depths=(1, 2, 1))),
    ],
)
def test_grids(patch_size: int, settings: dict) -> None:
    model = stem(patch_size, **settings)
    assert model.init_out_size == (32 // patch_size,) * 2
    tokens, grid = model(torch.randn(2, 3, 32, 48))
    assert grid == (32 // patch_size, 48 // patch_size)
    assert tokens.shape == (2, grid[0] * grid[1], 6)


@pytest.mark.parametrize('size', [(33, 40), (31, 41), (17, 9), (1, 50)])
def test_odd_sizes_are_rounded_up(size: tuple[int, int]) -> None:
    tokens, grid = stem()(torch.randn(1, 3, *size))
    assert grid == tuple(-(-side // 8) for side in size)
    assert tokens.shape[1] == grid[0] * grid[1]
    assert tokens.isfinite().all()


def test_tokens_stand_row_by_row() -> None:
    model = stem().eval()
    images = torch.randn(1, 3, 32, 16)
    tokens, grid = model(images)
    maps = model.projection(model.backbone(images))
    assert torch.equal(tokens[0, 3], maps[0, :, 1, 1])
    assert grid == (4, 2)


def test_rectified_after_every_sum_and_pooled_without_zeros() -> None:
    model = stem()
    images = torch.randn(1, 3, 32, 32)
    assert (model.backbone(images) >= 0).all()
    assert model.backbone(images).any()
    blocks = [block for stage in model.backbone.stages for block in stage.blocks]
    assert [block.downsample is not None for block in blocks] == [True, False, True]


@pytest.mark.parametrize('pos_interp', ['bilinear', 'tf'])
def test_in_a_transformer(backbone_cfg: dict, pos_interp: str) -> None:
    cfg = {**backbone_cfg, 'img_size': 32, 'patch_size': 8, 'pos_interp': pos_interp}
    model = MODELS.build({**cfg, 'stem': dict(type='HybridStem', **TWO)})
    encoded = model.encode(torch.randn(1, 3, 24, 40), 'all')
    assert encoded.grid == (3, 5)
    assert encoded.features[-1].shape == (1, 8, 3, 5)
    encoded.tokens[-1].square().sum().backward()
    without = [name for name, weight in model.patch_embed.named_parameters() if weight.grad is None]
    assert without == []


@pytest.mark.parametrize(
    'settings',
    [dict(patch_size=16), dict(channels=(8, 8, 16)), dict(depths=(1,))],
)
def test_stages_that_do_not_fit_the_patch(settings: dict) -> None:
    with pytest.raises(ValueError, match=r'HybridStem with \d stages of channels and \d depths has stride \d+, but'):
        stem(**settings)
