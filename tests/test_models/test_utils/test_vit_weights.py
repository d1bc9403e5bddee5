"""Converters from timm and from the original .npz layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mmwsss.models.utils import convert_flax_vit, convert_timm_vit, load_vit_weights
from mmwsss.registry import MODELS

WIDTH, HEADS, MLP, DEPTH, PATCH = 8, 2, 16, 3, 4


@pytest.fixture
def flax() -> dict[str, np.ndarray]:
    """Random weights in the layout of the original release, attention kernels split by heads."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    head = WIDTH // HEADS
    arrays = {
        'embedding/kernel': draw(PATCH, PATCH, 3, WIDTH), 'embedding/bias': draw(WIDTH), 'cls': draw(1, 1, WIDTH),
        'Transformer/posembed_input/pos_embedding': draw(1, 17, WIDTH),
        'Transformer/encoder_norm/scale': draw(WIDTH), 'Transformer/encoder_norm/bias': draw(WIDTH),
        'head/kernel': draw(WIDTH, 5), 'head/bias': draw(5), 'pre_logits/kernel': draw(WIDTH, WIDTH),
    }  # fmt: skip
    for i in range(DEPTH):
        block = f'Transformer/encoderblock_{i}'
        for norm in ('LayerNorm_0', 'LayerNorm_2'):
            arrays[f'{block}/{norm}/scale'], arrays[f'{block}/{norm}/bias'] = draw(WIDTH), draw(WIDTH)
        for name in ('query', 'key', 'value'):
            arrays[f'{block}/MultiHeadDotProductAttention_1/{name}/kernel'] = draw(WIDTH, HEADS, head)
            arrays[f'{block}/MultiHeadDotProductAttention_1/{name}/bias'] = draw(HEADS, head)
        arrays[f'{block}/MultiHeadDotProductAttention_1/out/kernel'] = draw(HEADS, head, WIDTH)
        arrays[f'{block}/MultiHeadDotProductAttention_1/out/bias'] = draw(WIDTH)
        for dense, shape in (('Dense_0', (WIDTH, MLP)), ('Dense_1', (MLP, WIDTH))):
            arrays[f'{block}/MlpBlock_3/{dense}/kernel'] = draw(*shape)
            arrays[f'{block}/MlpBlock_3/{dense}/bias'] = draw(shape[1])
    return arrays


def attention(arrays: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Attention of block 0 on ``x`` (N, D), with the kernels as they are stored."""
    name = 'Transformer/encoderblock_0/MultiHeadDotProductAttention_1'
    q, k, v = (
        np.einsum('nd,dhe->hne', x, arrays[f'{name}/{part}/kernel']) + arrays[f'{name}/{part}/bias'][:, None]
        for part in ('query', 'key', 'value')
    )
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = weights / weights.sum(-1, keepdims=True) @ v
    return np.einsum('hne,hed->nd', mixed, arrays[f'{name}/out/kernel']) + arrays[f'{name}/out/bias']


@pytest.fixture
def build(backbone_cfg: dict):
    return lambda path: MODELS.build({**backbone_cfg, 'init_cfg': dict(type='Pretrained', checkpoint=str(path))})


def test_original_layout_fits_the_backbone_and_computes_the_same(flax: dict, tmp_path: Path, build) -> None:
    np.savez(tmp_path / 'vit.npz', **flax)
    model = build(tmp_path / 'vit.npz')
    model.init_weights()
    model.eval()
    image = torch.randn(1, 3, 16, 16)
    patches, _ = model.patch_embed(image)
    pixels = image[0].permute(1, 2, 0).numpy()
    expected = np.einsum('yxc,yxcd->d', pixels[4:8, 8:12], flax['embedding/kernel']) + flax['embedding/bias']
    np.testing.assert_allclose(patches[0, 1 * 4 + 2].detach().numpy(), expected, atol=1e-4)
    x = torch.randn(1, 5, WIDTH)
    np.testing.assert_allclose(
        model.layers[0].attn(x)[0].detach().numpy(), attention(flax, x[0].double().numpy()), atol=1e-4
    )
    np.testing.assert_array_equal(model.cls_token.detach(), flax['cls'])
    np.testing.assert_array_equal(model.pos_embed.detach(), flax['Transformer/posembed_input/pos_embedding'])
    np.testing.assert_array_equal(
        model.layers[2].ffn.layers[1].weight.detach(), flax['Transformer/encoderblock_2/MlpBlock_3/Dense_1/kernel'].T
    )
    np.testing.assert_array_equal(
        model.layers[1].ln2.bias.detach(), flax['Transformer/encoderblock_1/LayerNorm_2/bias']
    )
    np.testing.assert_array_equal(model.ln1.weight.detach(), flax['Transformer/encoder_norm/scale'])


def test_classifier_and_pre_logits_are_dropped(flax: dict) -> None:
    state = convert_flax_vit(flax)
    assert not [name for name in state if name.startswith(('head', 'pre_logits'))]
    assert all(value.dtype == torch.float32 and value.is_contiguous() for value in state.values())


def test_keras_tree_gives_the_same_weights(flax: dict) -> None:
    keras = {}
    for name, value in flax.items():
        name = name.replace('MlpBlock_3/', '').replace('/scale', '/gamma').replace('cls', 'class_token/cls')
        if 'Norm' in name or 'norm' in name:
            name = name.replace('/bias', '/beta')
        if '/out/kernel' in name:
            value = value.reshape(WIDTH, WIDTH)
        elif 'Attention' in name and name.endswith('kernel'):
            value = value.reshape(WIDTH, -1)
        keras[f'{name}:0'] = value
    ours, expected = convert_flax_vit(keras), convert_flax_vit(flax)
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in ours)


def test_incomplete_npz_is_named(flax: dict, tmp_path: Path) -> None:
    del flax['Transformer/encoderblock_1/LayerNorm_0/scale']
    np.savez(tmp_path / 'part.npz', **flax)
    with pytest.raises(ValueError, match=r'part\.npz holds no ViT.*encoderblock_1/LayerNorm_0/scale'):
        load_vit_weights(str(tmp_path / 'part.npz'))


@pytest.mark.parametrize('suffix', ['npz', 'pth'])
def test_files_without_a_vit_are_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f'other.{suffix}'
    if suffix == 'npz':
        np.savez(path, weight=np.zeros(3))
    else:
        torch.save({'conv1.weight': torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=rf'other\.{suffix} holds no ViT'):
        load_vit_weights(str(path))


def test_missing_file() -> None:
    with pytest.raises(FileNotFoundError, match=r'no weights at nowhere/vit\.npz; set init_cfg\.checkpoint'):
        load_vit_weights('nowhere/vit.npz')


def test_prefix_selects_a_part(tmp_path: Path) -> None:
    state = {'teacher.layers.0.ln1.weight': torch.ones(2), 'backbone.layers.0.ln1.weight': torch.zeros(2)}
    torch.save(state, tmp_path / 'two.pth')
    assert load_vit_weights(str(tmp_path / 'two.pth'))['layers.0.ln1.weight'].tolist() == [0, 0]
    assert load_vit_weights(str(tmp_path / 'two.pth'), prefix='teacher')['layers.0.ln1.weight'].tolist() == [1, 1]


def test_timm_names() -> None:
    names = {
        'patch_embed.proj.weight': 'patch_embed.projection.weight',
        'blocks.11.norm1.bias': 'layers.11.ln1.bias',
        'blocks.0.attn.qkv.weight': 'layers.0.attn.qkv.weight',
        'blocks.3.mlp.fc1.bias': 'layers.3.ffn.layers.0.0.bias',
        'blocks.3.mlp.fc2.weight': 'layers.3.ffn.layers.1.weight',
        'norm.weight': 'ln1.weight',
        'cls_token': 'cls_token',
        'head.weight': None,
        'fc_norm.bias': None,
    }
    state = convert_timm_vit({name: torch.zeros(1) for name in names})
    assert set(state) == set(filter(None, names.values()))
