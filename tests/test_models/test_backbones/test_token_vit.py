"""TokenViT: grids, freezing with dropout alive, and weights from other code bases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.models.backbones import VisionTransformer
from torch import nn

from mmwsss.models.backbones import TokenViT
from mmwsss.models.utils import resize_position_embedding
from mmwsss.ops import OneDNNLinear
from mmwsss.registry import MODELS


@pytest.fixture
def build(backbone_cfg: dict):
    def make(training: bool = False, **settings) -> TokenViT:
        model = MODELS.build({**backbone_cfg, **settings})
        model.train(training)
        return model

    return make


def with_random_embeddings(model: TokenViT) -> TokenViT:
    with torch.no_grad():
        model.pos_embed.normal_()
        model.cls_token.normal_()
    return model


def test_features_are_those_of_the_parent(build) -> None:
    model = with_random_embeddings(build())
    arch = dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=16)
    parent = VisionTransformer(arch=arch, img_size=16, patch_size=4, out_type='featmap')
    parent.eval()
    parent.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(model(images)[0], parent(images)[0])


def test_linear_layers_of_torch_on_request(build) -> None:
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    ours, plain = build(arch=arch), build(arch=arch, onednn_linear=False)
    linears = [[m for m in model.layers.modules() if isinstance(m, nn.Linear)] for model in (ours, plain)]
    assert len(linears[0]) == len(linears[1]) == 2 * 4
    assert all(type(m) is OneDNNLinear for m in linears[0])
    assert not any(isinstance(m, OneDNNLinear) for m in linears[1])
    plain.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 128, 128)  # enough tokens for the other route
    for model in (ours, plain):
        model(images)[0].pow(3).mean().backward()
    for (name, one), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize('size', [(16, 16), (16, 28), (24, 8)])
def test_rectangular_grids(build, size: tuple[int, int]) -> None:
    model = with_random_embeddings(build())
    tokens, grid = model.forward_tokens(torch.randn(2, 3, *size))
    assert grid == (size[0] // 4, size[1] // 4)
    assert tokens[-1].shape == (2, 1 + grid[0] * grid[1], 8)
    (features,) = model(torch.randn(2, 3, *size))
    assert features.shape == (2, 8, *grid)


def test_patch_features_keep_their_place(build) -> None:
    model = with_random_embeddings(build())
    images = torch.randn(1, 3, 16, 24)
    tokens, (height, width) = model.forward_tokens(images)
    (features,) = model(images)
    for y, x in np.ndindex(height, width):
        assert torch.equal(features[0, :, y, x], tokens[-1][0, 1 + y * width + x])


@pytest.mark.parametrize('mode', ['tf', 'torch'])
def test_position_embedding_is_interpolated_by_the_chosen_rule(build, mode: str) -> None:
    model = with_random_embeddings(build(pos_interp=mode))
    seen = []
    model.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    images = torch.randn(1, 3, 16, 24)
    model(images)
    expected = resize_position_embedding(model.pos_embed, (4, 4), (4, 6), mode)
    embedded = torch.cat((model.cls_token, model.patch_embed(images)[0]), dim=1) + expected
    torch.testing.assert_close(seen[0], embedded)


def test_final_norm_closes_the_last_block_only(build) -> None:
    model = with_random_embeddings(build(out_indices=[0, 2]))
    torch.nn.init.normal_(model.ln1.weight)
    blocks = []
    for layer in model.layers:
        layer.register_forward_hook(lambda _, __, out: blocks.append(out))
    tokens, _ = model.forward_tokens(torch.randn(1, 3, 16, 16))
    assert torch.equal(tokens[0], blocks[0])
    assert torch.equal(tokens[1], model.ln1(blocks[2]))
    open_end = build(final_norm=False)
    assert not hasattr(open_end, 'ln1')
    assert open_end(torch.randn(1, 3, 16, 16))[0].shape == (1, 8, 4, 4)


@pytest.mark.parametrize('blocks', [0, 1, 3])
def test_last_blocks_and_final_norm_train(build, blocks: int) -> None:
    model = build(training=True, num_trainable_blocks=blocks)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    chosen = tuple(f'layers.{i}.' for i in range(3 - blocks, 3))
    assert trained == {n for n, _ in model.named_parameters() if n.startswith((*chosen, 'ln1.'))}
    assert len(trained) == 2 + 12 * blocks
    model(torch.randn(1, 3, 16, 16))[0].square().sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


def test_everything_trains_by_default(build) -> None:
    assert all(p.requires_grad for p in build().parameters())


@pytest.mark.parametrize('blocks', [None, 1])
def test_frozen_position_embedding(build, blocks: int | None) -> None:
    model = build(training=True, freeze_pos_embed=True, num_trainable_blocks=blocks)
    other = build(training=True, num_trainable_blocks=blocks)
    frozen, before = ({n for n, p in m.named_parameters() if not p.requires_grad} for m in (model, other))
    assert frozen == before | {'pos_embed'}
    model.init_weights()
    model(torch.randn(1, 3, 16, 16))[0].square().sum().backward()
    assert model.pos_embed.grad is None
    assert (model.cls_token.grad is None) == (blocks == 1)


def test_a_remainder_of_a_patch_is_dropped(build) -> None:
    model = with_random_embeddings(build(img_size=(18, 19)))
    assert model.pos_embed.shape == (1, 1 + 4 * 4, 8)
    images = torch.randn(1, 3, 23, 18)
    (features,) = model(images)
    assert features.shape == (1, 8, 5, 4)
    assert torch.equal(features, model(images[..., :20, :16])[0])
    assert not torch.allclose(features, model(images[..., -20:, -16:])[0])


def test_frozen_blocks_stay_in_training_mode_with_dropout(build) -> None:
    model = build(training=True, num_trainable_blocks=1, drop_rate=0.5)
    assert all(module.training for module in model.modules())
    outputs = []
    model.layers[0].register_forward_hook(lambda _, __, out: outputs.append(out))
    images = torch.randn(1, 3, 16, 16)
    first, second = model(images)[0], model(images)[0]
    assert not torch.equal(outputs[0], outputs[1]), 'dropout acts inside the frozen first block'
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model(images)[0], model(images)[0])


def test_no_dropout_after_the_position_embedding(build) -> None:
    model = build(training=True, drop_rate=0.9)
    seen = []
    model.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    images = torch.randn(1, 3, 16, 16)
    model(images), model(images)
    assert torch.equal(*seen)


@pytest.mark.parametrize(
    ('settings', 'deterministic'), [({}, True), ({'drop_rate': 0.1}, False), ({'drop_path_rate': 0.1}, False)]
)
def test_deterministic_means_equal_in_both_modes(build, settings: dict, deterministic: bool) -> None:
    model = build(**settings)
    assert model.is_deterministic == deterministic
    if deterministic:
        images = torch.randn(2, 3, 16, 16)
        model.train()
        trained = model(images)[0]
        model.eval()
        assert torch.equal(model(images)[0], trained)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'arch': 'small'}, "unknown arch 'small'; choose from vit-xt"),
        ({'pos_interp': 'cubic'}, 'pos_interp has to be one of'),
        ({'num_trainable_blocks': 4}, 'num_trainable_blocks=4 does not fit a ViT of 3 blocks'),
    ],
)
def test_wrong_settings(build, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**settings)


def timm_state(model: TokenViT) -> dict[str, torch.Tensor]:
    """The weights of ``model`` under timm's names, with a classifier."""
    state = {'head.weight': torch.zeros(5, 8), 'head.bias': torch.zeros(5)}
    for name, value in model.state_dict().items():
        for ours, theirs in (
            ('patch_embed.projection', 'patch_embed.proj'), ('.ffn.layers.0.0.', '.mlp.fc1.'),
            ('.ffn.layers.1.', '.mlp.fc2.'), ('.ln1.', '.norm1.'), ('.ln2.', '.norm2.'), ('layers.', 'blocks.'),
        ):  # fmt: skip
            name = name.replace(ours, theirs)
        state['norm.' + name[4:] if name.startswith('ln1.') else name] = value.clone()
    return state


def assert_same_weights(model: TokenViT, other: TokenViT, but: str = '-') -> None:
    for name, value in other.state_dict().items():
        if not name.startswith(but):
            assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize('wrapper', [None, 'model', 'state_dict'])
def test_initialised_from_a_timm_file(build, tmp_path: Path, wrapper: str | None) -> None:
    source = with_random_embeddings(build())
    state = timm_state(source)
    torch.save({wrapper: state} if wrapper else state, tmp_path / 'timm.pth')
    model = build(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'timm.pth')))
    model.init_weights()
    assert_same_weights(model, source)
    assert model.is_init


def test_initialised_from_a_segmentor_of_half_precision(build, tmp_path: Path) -> None:
    source = with_random_embeddings(build())
    state = {f'backbone.{name}': value.half() for name, value in source.state_dict().items()}
    torch.save(dict(state_dict={**state, 'head.weight': torch.zeros(2)}), tmp_path / 'whole.pth')
    model = build(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'whole.pth')))
    model.init_weights()
    for name, value in model.state_dict().items():
        assert torch.equal(value, source.state_dict()[name].half().float())


def test_stored_position_embedding_is_interpolated_to_a_rectangular_grid(build, tmp_path: Path) -> None:
    source = with_random_embeddings(build())
    torch.save(timm_state(source), tmp_path / 'timm.pth')
    model = build(img_size=(16, 24), init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'timm.pth')))
    model.init_weights()
    assert_same_weights(model, source, but='pos_embed')
    assert torch.equal(model.pos_embed, resize_position_embedding(source.pos_embed, (4, 4), (4, 6), 'tf'))


def test_random_start_without_a_checkpoint(build) -> None:
    model = build()
    model.init_weights()
    assert 0.01 < model.pos_embed.std() < 0.03


def test_missing_file(build, tmp_path: Path) -> None:
    model = build(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'none.pth')))
    with pytest.raises(FileNotFoundError, match=r'none\.pth; set init_cfg\.checkpoint'):
        model.init_weights()


@pytest.mark.parametrize(
    ('other', 'message'),
    [
        (dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16), r'missing \[.layers\.2.* \(12\)'),
        (dict(embed_dims=8, num_layers=4, num_heads=2, feedforward_channels=16), r'unexpected \[.layers\.3.* \(12\)'),
        (
            dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=12),
            r'of another shape \[.layers\.0.* \(9\)',
        ),
        (dict(embed_dims=12, num_layers=3, num_heads=2, feedforward_channels=16), r'of another shape \[.cls_token'),
    ],
)
def test_wrong_checkpoint_is_named(build, tmp_path: Path, other: dict, message: str) -> None:
    torch.save(timm_state(build(arch=other)), tmp_path / 'other.pth')
    model = build(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'other.pth')))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RuntimeError, match=rf'other\.pth does not fit.*{message}.*check arch and patch_size'):
        model.init_weights()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize('mode', ['tf', 'torch'])
@pytest.mark.parametrize('size', [(24, 24), (8, 8), (16, 24)])
def test_position_embedding_of_a_checkpoint_follows_pos_interp(build, mode: str, size: tuple[int, int]) -> None:
    stored = with_random_embeddings(build())
    model = build(img_size=size, pos_interp=mode)
    state = {f'backbone.{name}': value for name, value in stored.state_dict().items()}
    torch.nn.ModuleDict(dict(backbone=model)).load_state_dict(state)
    expected = resize_position_embedding(stored.pos_embed, (4, 4), (size[0] // 4, size[1] // 4), mode)
    torch.testing.assert_close(model.pos_embed, expected)


@pytest.mark.parametrize('option', [dict(pre_norm=True), dict(with_cls_token=False)])
def test_options_of_the_parent_that_are_not_supported(build, option: dict) -> None:
    (name,) = option
    with pytest.raises(ValueError, match=f'TokenViT does not support {name}='):
        build(**option)
    build(**{name: not option[name]})
