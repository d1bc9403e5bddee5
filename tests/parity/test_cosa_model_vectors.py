"""Networks of CoSA against the official implementation; sizes and cases are read from the vectors."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import Tensor
from vectors import close, load, tensor, vectors

from mmwsss.models.segmentors import CoSANetwork
from mmwsss.models.utils.cosa_weights import convert_cosa

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
VITB_AUX, MASK_DECODER_AUX, MASK_DECODER_LAYERS = -3, -2, 2  # not in the files
HEAD_DIM = 64  # of the ViT-B and of the mask transformer
DETACH = dict(none='none', feat='features', cls='weights', all='all')


def outputs(network: CoSANetwork, images: Tensor) -> dict[str, Tensor]:
    """Outputs of ``network`` under the names of the vectors."""
    out = network(images)
    classifiers = dict(cls=out.image_logits, cls_aux=out.aux_image_logits, cam=out.cam, cam_aux=out.aux_cam)
    return dict(**classifiers, feat=out.features, seg=out.logits)


def official_weights(data: Mapping[str, np.ndarray], prefix: str = 'sd/') -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor(value).float() for key, value in data.items() if key.startswith(prefix)}


def build(
    weights: Mapping[str, Tensor],
    num_heads: int,
    aux: int,
    pooling: str = 'GlobalMaxPooling',
    detach: str = 'none',
    decode_head: dict | None = None,
) -> CoSANetwork:
    """A network with the sizes of the official ``weights``, and those weights."""
    width, _, patch, _ = weights['encoder.patch_embed.proj.weight'].shape
    depth = 1 + max(int(match[1]) for key in weights if (match := re.match(r'encoder\.blocks\.(\d+)\.', key)))
    side = round((weights['encoder.pos_embed'].shape[1] - 1) ** 0.5)
    num_classes = len(weights['classifier.weight']) + 1
    hidden = len(weights['encoder.blocks.0.mlp.fc1.weight'])
    arch = dict(embed_dims=width, num_layers=depth, num_heads=num_heads, feedforward_channels=hidden)
    head = dict(
        type='CAMHead', in_channels=width, num_classes=num_classes, pooling=dict(type=pooling), detach=detach,
        init_std=None,
    )  # fmt: skip
    decode_head = decode_head or dict(type='LargeFOVHead', channels=len(weights['decoder.conv6.weight']))
    network = CoSANetwork(
        backbone=dict(
            type='TokenViT', arch=arch, img_size=patch * side, patch_size=patch, pos_interp='torch',
            out_indices=[depth + aux, depth - 1], freeze_pos_embed=True,
        ),
        head=head,
        aux_head=head,
        decode_head=dict(in_channels=width, num_classes=num_classes, **decode_head),
    )  # fmt: skip
    network.load_state_dict(convert_cosa(weights))
    return network


def build_tiny(data: Mapping[str, np.ndarray], aux: int, **settings) -> CoSANetwork:
    decode_head = dict(
        type='LargeFOVHead', channels=data['decoder_channels'].item(), dilation=data['decoder_dilation'].item()
    )
    return build(official_weights(data), data['num_heads'].item(), aux, decode_head=decode_head, **settings)


def normalized(images: np.ndarray) -> Tensor:
    return tensor(np.moveaxis((images - np.float32(MEAN)) / np.float32(STD), -1, 1))


def outputs_of(data: Mapping[str, np.ndarray], case: str) -> dict[str, np.ndarray]:
    """All recorded outputs of one case."""
    return {key.split('/')[1]: value for key, value in data.items() if key.startswith(f'{case}/')}


def assert_outputs(found: Mapping[str, Tensor], data: Mapping[str, np.ndarray], case: str, atol: float) -> None:
    expected = outputs_of(data, case)
    expected.pop('cam_only_maxdiff', None)  # two ways of the official code compared
    assert expected
    for name, value in expected.items():
        close(found[name], value, rtol=1e-3, atol=atol)


def aux_cases(data: Mapping[str, np.ndarray]) -> dict[str, tuple[int, str]]:
    """Case: auxiliary layer and pooling; the first one with max pooling is that of the unnamed cases."""
    found = {}
    for case in dict.fromkeys(key.split('/')[0] for key in data):
        if match := re.fullmatch(r'aux(-\d+)(_gap)?', case):
            found[case] = int(match[1]), 'GlobalAveragePooling' if match[2] else 'GlobalMaxPooling'
    return found


def default_aux(data: Mapping[str, np.ndarray]) -> int:
    return next(aux for aux, pooling in aux_cases(data).values() if pooling == 'GlobalMaxPooling')


@vectors('cosa', 'model_tiny.npz')
def test_outputs_of_a_small_network(path: Path) -> None:
    data = load(path)
    cases = aux_cases(data)
    assert len({pooling for _, pooling in cases.values()}) == 2
    images = normalized(data['img_u8'])
    for case, (aux, pooling) in cases.items():
        network = build_tiny(data, aux, pooling=pooling)
        with torch.no_grad():
            assert_outputs(outputs(network, images), data, case, atol=1e-4)
    network = build_tiny(data, default_aux(data))
    squares = [match[1] for match in (re.fullmatch(r'img(\d+)_u8', key) for key in data) if match]
    assert squares
    for side in squares:
        with torch.no_grad():
            assert_outputs(outputs(network, normalized(data[f'img{side}_u8'])), data, f'sq{side}', atol=1e-4)


@vectors('cosa', 'model_tiny.npz')
def test_tokens_of_a_small_encoder(path: Path) -> None:
    data = load(path)
    backbone = build_tiny(data, default_aux(data)).backbone
    seen = []
    backbone.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        (aux, last), _ = backbone.forward_tokens(normalized(data['img_u8']))
    found = dict(cls_token=last[:, 0], aux_tokens=aux[:, 1:], tokens_in=seen[0])
    assert_outputs(found, data, 'enc', atol=1e-4)


@vectors('cosa', 'model_tiny.npz')
def test_gradient_of_the_maps_with_detached_parts(path: Path) -> None:
    data = load(path)
    cases = [match for match in (re.fullmatch(r'detach_(\w+)_gradnorm', key) for key in data) if match]
    assert cases
    for case in cases:
        network = build_tiny(data, default_aux(data), detach=DETACH[case[1]])
        out = outputs(network, normalized(data['img_u8']))
        (out['cam'].square().sum() + out['cam_aux'].square().sum()).backward()
        weights = network.head.classifier.weight, network.backbone.layers[0].attn.qkv.weight
        norms = [torch.zeros(()) if weight.grad is None else weight.grad.norm() for weight in weights]
        close(torch.stack(norms), data[case[0]], rtol=1e-3, atol=1e-4)


@vectors('cosa', 'model_tiny.npz')
def test_parameter_groups(path: Path) -> None:
    data = load(path)
    network = build_tiny(data, default_aux(data))
    lr, weight_decay, factor = 6e-5, 0.01, 10
    constructor = DefaultOptimWrapperConstructor(
        dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=lr, weight_decay=weight_decay)),
        dict(custom_keys=dict(head=dict(lr_mult=factor))),
    )
    groups = constructor(network).optimizer.param_groups
    settings = {id(weight): (group['lr'], group['weight_decay']) for group in groups for weight in group['params']}
    parameters = dict(network.named_parameters())
    weights = official_weights(data)
    factors = dict(backbone=1, norm=1, cls_head=factor, seg_head=factor)
    seen = set()
    for group, names in json.loads(str(data['param_groups_json'])).items():
        for official in names:
            if official.startswith('encoder.head.'):  # unused, not in our network
                continue
            # The name that this one becomes: that of the only full weight where all others are 0-dimensional.
            marked = {name: weights[name] if name == official else torch.zeros(()) for name in weights}
            (ours,) = (name for name, value in convert_cosa(marked).items() if value.dim())
            if parameters[ours].requires_grad:
                assert settings[id(parameters[ours])] == pytest.approx((lr * factors[group], weight_decay)), official
            seen.add(ours)
    assert seen == set(parameters)
    assert {name for name, weight in parameters.items() if not weight.requires_grad} == {'backbone.pos_embed'}


@vectors('cosa', 'model_tiny_maskdecoder*.npz')
def test_mask_transformer(path: Path) -> None:
    data = load(path)
    width = data['embed_dim'].item()
    decode_head = dict(
        type='SegmenterMaskTransformerHead', channels=width, embed_dims=width, num_layers=MASK_DECODER_LAYERS,
        num_heads=width // HEAD_DIM, drop_rate=0.1, attn_drop_rate=0.1, drop_path_rate=0.0, dropout_ratio=0.0,
    )  # fmt: skip
    weights, num_heads = official_weights(data), data['num_heads'].item()
    network = build(weights, num_heads, MASK_DECODER_AUX, decode_head=decode_head).eval()
    with torch.no_grad():
        assert_outputs(outputs(network, normalized(data['img_u8'])), data, 'out', atol=1e-4)


def formula_weight(name: str, shape: list[int], seed: int) -> Tensor:
    """Weights by the rule of the vectors' documentation."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    noise = rng.standard_normal(shape, dtype=np.float32)
    if name.endswith(('pos_embed', 'cls_token')):
        noise *= np.float32(0.02)
    elif len(shape) == 1 and name.endswith('.weight'):
        noise = 1 + np.float32(0.1) * noise
    elif len(shape) == 1:
        noise *= np.float32(0.02)
    else:
        noise /= np.float32(np.sqrt(np.prod(shape[1:])))
    return torch.from_numpy(noise)


@vectors('cosa', 'model_vitb*.npz')
def test_outputs_of_the_whole_network(path: Path) -> None:
    data = load(path)
    shapes = json.loads(str(data['keys_shapes_json']))
    weights = {name: formula_weight(name, shape, data['weight_seed'].item()) for name, shape in shapes.items()}
    probe = data['probe_qkv0']
    close(weights['encoder.blocks.0.attn.qkv.weight'][tuple(map(slice, probe.shape))], probe, atol=1e-6)
    probe = data['probe_conv7']
    close(weights['decoder.conv7.weight'][tuple(map(slice, probe.shape))], probe, atol=1e-6)

    network = build(weights, weights['encoder.norm.weight'].numel() // HEAD_DIM, VITB_AUX)
    unused = sum(weight.numel() for name, weight in weights.items() if name.startswith('encoder.head.'))
    counts = [
        sum(weight.numel() for weight in network.parameters()),
        sum(weight.numel() for weight in network.parameters() if weight.requires_grad),
    ]
    assert [count + unused for count in counts] == data['n_params'].tolist()
    with torch.no_grad():
        assert_outputs(outputs(network, normalized(data['img_u8'])), data, 'out', atol=2e-3)
