"""Attention of chosen layers of a TokenViT."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from mmwsss.models.backbones import TokenViT
from mmwsss.models.backbones.attention_tap import AttentionTap
from mmwsss.registry import MODELS

IMAGES = (2, 3, 16, 24)
TOKENS = 1 + 4 * 6


@pytest.fixture
def build(backbone_cfg: dict):
    def make(**settings) -> TokenViT:
        model = MODELS.build({**backbone_cfg, **settings})
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.5)
        return model.eval()

    return make


def taps(model: TokenViT) -> list[AttentionTap]:
    return [layer.attn.scaled_dot_product_attention for layer in model.layers]


def test_closed_it_is_the_fused_product(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = torch.randn(3, 2, 4, 5, 6)
    tap, fused = AttentionTap(), F.scaled_dot_product_attention
    expected = fused(query, key, value)
    assert torch.equal(tap(query, key, value), expected)
    assert tap.close() is None
    tap.open()
    monkeypatch.setattr(F, 'scaled_dot_product_attention', lambda *args, **kwargs: pytest.fail('fused product used'))
    torch.testing.assert_close(tap(query, key, value), expected)
    weights = tap.close()
    torch.testing.assert_close(weights, (query @ key.transpose(-2, -1) / 6**0.5).softmax(dim=-1))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4, 5))
    assert (tap.is_open, tap.weights) == (False, None)


def test_open_it_keeps_the_dropout() -> None:
    query, key, value = torch.randn(3, 1, 1, 40, 4)
    tap = AttentionTap()
    tap.open()
    torch.testing.assert_close(tap(query, key, value, dropout_p=1.0), torch.zeros_like(value))
    torch.testing.assert_close(tap.close().sum(dim=-1), torch.ones(1, 1, 40))


@pytest.mark.parametrize('layers', [(), [1], [-1, 0], 'all'])
def test_outputs_do_not_depend_on_what_is_asked(build, layers) -> None:
    model, images = build(), torch.randn(IMAGES)
    plain, encoded = model.encode(images), model.encode(images, layers)
    assert plain.attention == []
    assert plain.grid == encoded.grid == (4, 6)
    torch.testing.assert_close(encoded.tokens, plain.tokens)
    assert torch.equal(plain.features[-1], model(images)[-1])
    indices = model.layer_indices(layers)
    assert len(encoded.attention) == len(indices)
    for weights in encoded.attention:
        assert weights.shape == (2, 2, TOKENS, TOKENS)
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 2, TOKENS))
    everything = model.encode(images, 'all').attention
    for index, weights in zip(indices, encoded.attention):
        torch.testing.assert_close(weights, everything[index])


@pytest.mark.parametrize('layers', [(), [2], [0, -1], 'all'])
def test_only_asked_layers_are_explicit(build, layers, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images, fused = build(), torch.randn(IMAGES), F.scaled_dot_product_attention
    calls = []
    monkeypatch.setattr(
        F, 'scaled_dot_product_attention', lambda *args, **kwargs: calls.append(1) or fused(*args, **kwargs)
    )
    model.encode(images, layers)
    assert len(calls) == model.num_layers - len(model.layer_indices(layers))
    assert not any(tap.is_open for tap in taps(model))
    assert all(tap.weights is None for tap in taps(model)), 'nothing stays in memory'


def test_a_probe_gives_gradients_of_a_frozen_network(build) -> None:
    model = build(num_trainable_blocks=0, final_norm=False).requires_grad_(False)
    images = torch.randn(IMAGES)
    plain = model.encode(images, 'all')
    assert not any(weights.requires_grad for weights in plain.attention)
    probed = model.encode(images, 'all', probe=True)
    torch.testing.assert_close(probed.tokens, plain.tokens)
    gradients = torch.autograd.grad(probed.tokens[-1][:, 0].sum(), probed.attention)
    assert all(gradient.any() for gradient in gradients)
    assert all(weight.grad is None for weight in model.parameters())


def test_gradient_flows_through_kept_attention(build) -> None:
    model = build()
    (weights,) = model.encode(torch.randn(IMAGES), [1]).attention
    weights.square().sum().backward()
    reached = [layer.attn.qkv.weight.grad is not None for layer in model.layers]
    assert reached == [True, True, False]


def test_layer_indices(build) -> None:
    model = build()
    assert model.layer_indices('all') == [0, 1, 2]
    assert model.layer_indices([-1, 0, 2]) == [0, 2]
    assert model.layer_indices(()) == []
    for wrong in ([3], [0, -4], 'last'):
        with pytest.raises(ValueError, match=r"layers of a ViT of 3 blocks are -3\.\.2 or 'all', got"):
            model.encode(torch.randn(IMAGES), wrong)


@pytest.mark.parametrize('final_norm', [True, False])
def test_blocks_in_pieces_are_the_whole(build, final_norm: bool) -> None:
    model, images = build(final_norm=final_norm), torch.randn(IMAGES)
    tokens, grid = model.embed(images)
    entering, _ = model.run_blocks(tokens, 0, 2)
    leaving, (weights,) = model.run_blocks(entering, 2, 3, [2])
    encoded = model.encode(images, [2])
    assert grid == encoded.grid
    torch.testing.assert_close(leaving, encoded.tokens[-1])
    torch.testing.assert_close(weights, encoded.attention[0])


def test_copies_and_checkpoints_do_not_notice(build) -> None:
    model, images = build(), torch.randn(IMAGES)
    names = list(model.state_dict())
    expected = model.encode(images, 'all')
    assert list(model.state_dict()) == names
    assert not any('scaled_dot_product' in name for name in names)
    copy = deepcopy(model)
    assert taps(copy)[0] is not taps(model)[0]
    torch.testing.assert_close(copy.encode(images, 'all').attention, expected.attention)
    other = build()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(images), model(images))
