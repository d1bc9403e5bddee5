"""Reading ViT weights of other code bases under the names of mmpretrain's VisionTransformer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

_TIMM_RULES = [
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'^blocks\.(\d+)\.norm([12])\.', r'layers.\1.ln\2.'),
    (r'^blocks\.(\d+)\.attn\.', r'layers.\1.attn.'),
    (r'^blocks\.(\d+)\.mlp\.fc1\.', r'layers.\1.ffn.layers.0.0.'),
    (r'^blocks\.(\d+)\.mlp\.fc2\.', r'layers.\1.ffn.layers.1.'),
    (r'^norm\.', 'ln1.'),
]
_CLASSIFIER = re.compile(r'^(head|fc_norm|pre_logits|head_dist|head_drop)[./]')  # of timm and of the original release
_FLAX_PARTS = re.compile(r'^(Transformer|embedding|cls|head|pre_logits)(/|$)')


def load_vit_weights(path: str, prefix: str | None = None) -> dict[str, Tensor]:
    """Load ViT weights as float32 under mmpretrain's names, telling the format from the file.

    Weights of a classifier are left out, which the log says.

    Args:
        path: local file or URL; ``.npz`` of the original ViT / AugReg release, or a torch or ``.safetensors`` file of
            timm, DeiT or mmpretrain.
        prefix: keep only keys below ``prefix.`` (for instance 'backbone'); by default 'backbone' where such keys exist.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no ViT in a known layout.
        ImportError: it is a ``.safetensors`` file and the package of that name is not installed.
    """
    if '://' not in str(path) and not Path(path).is_file():
        raise FileNotFoundError(f'no weights at {path}; set init_cfg.checkpoint of the backbone to an existing file')
    suffix = Path(str(path)).suffix
    if suffix == '.npz':
        local = _local_file(str(path))
        with np.load(local) as arrays:
            try:
                tree = dict(arrays)
                _check_flax_parts(tree)
                converted = convert_flax_vit(tree)
            except (KeyError, ValueError) as error:
                raise ValueError(f'{path} holds no ViT in the layout of the original release: {error}') from error
        _tell_dropped(path, tree)
        return converted
    if suffix == '.safetensors':
        state = _read_safetensors(str(path))
    else:
        state = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    for wrapper in ('state_dict', 'model'):
        state = state.get(wrapper, state)
    if prefix is None and any(key.startswith('backbone.') for key in state):
        prefix = 'backbone'
    if prefix:
        state = {key[len(prefix) + 1 :]: value for key, value in state.items() if key.startswith(f'{prefix}.')}
    _tell_dropped(path, state)
    if any(key.startswith('blocks.') for key in state):
        state = convert_timm_vit(state)
    if not any(key.startswith('layers.') for key in state):
        raise ValueError(
            f'{path} holds no ViT: expected keys "blocks.*" (timm), "layers.*" (mmpretrain) or a .npz file'
        )
    return {key: value.float() for key, value in state.items() if not _CLASSIFIER.match(key)}


def _tell_dropped(path: str, names: Iterable[str]) -> None:
    dropped = [name for name in names if _CLASSIFIER.match(name)]
    if dropped:
        print_log(f'{path}: left out, as a classifier has them: {", ".join(dropped)}', 'current')


def _check_flax_parts(names: Iterable[str]) -> None:
    # The ViT behind a convolutional network has the same names, but takes its features in the place of patches.
    others = [name for name in names if not _FLAX_PARTS.match(_normal_name(name))]
    if others:
        raise ValueError(f'it has parts of something else, such as {", ".join(others[:3])} ({len(others)})')


def _read_safetensors(path: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError  # an optional dependency
    from safetensors.torch import load_file

    try:
        return load_file(_local_file(path))
    except SafetensorError as error:
        raise ValueError(f'{path} is no safetensors file ({error}); is it complete?') from error


def _local_file(path: str) -> str:
    """``path``, or where the file of a URL lies after its first download."""
    if '://' not in path:
        return path
    from torch.hub import download_url_to_file, get_dir

    local = Path(get_dir()) / 'checkpoints' / Path(path).name
    local.parent.mkdir(parents=True, exist_ok=True)
    if not local.is_file():
        download_url_to_file(path, str(local))
    return str(local)


def convert_timm_vit(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of a timm or DeiT state dict; classifier entries are dropped."""
    converted = {}
    for key, value in state.items():
        if _CLASSIFIER.match(key):
            continue
        for pattern, replacement in _TIMM_RULES:
            key = re.sub(pattern, replacement, key)
        converted[key] = value
    return converted


def convert_flax_vit(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Convert the arrays of an original ViT / AugReg ``.npz``; classifier and pre-logits entries are dropped.

    Also takes the Keras tree of ViT-PCM, which differs in two leaf names and in flattened attention kernels.
    """
    tree = {_normal_name(key): np.asarray(value) for key, value in arrays.items()}
    width = tree['embedding/bias'].shape[0]
    depth = 1 + max(int(m.group(1)) for key in tree if (m := re.match(r'Transformer/encoderblock_(\d+)/', key)))
    state = {
        'patch_embed.projection.weight': tree['embedding/kernel'].transpose(3, 2, 0, 1),
        'patch_embed.projection.bias': tree['embedding/bias'],
        'cls_token': tree['cls'].reshape(1, 1, width),
        'pos_embed': tree['Transformer/posembed_input/pos_embedding'],
        'ln1.weight': tree['Transformer/encoder_norm/scale'],
        'ln1.bias': tree['Transformer/encoder_norm/bias'],
    }
    for i in range(depth):
        state.update(_flax_block(tree, f'Transformer/encoderblock_{i}', f'layers.{i}', width))
    return {key: torch.from_numpy(np.ascontiguousarray(value)).float() for key, value in state.items()}


def _normal_name(key: str) -> str:
    key = re.sub(r':0$', '', key)
    key = key.replace('class_token/cls', 'cls')
    key = re.sub(r'/gamma$', '/scale', key)
    key = re.sub(r'(LayerNorm_\d+|encoder_norm)/beta$', r'\1/bias', key)
    return key.replace('MlpBlock_3/', '')


def _flax_block(tree: Mapping[str, np.ndarray], source: str, target: str, width: int) -> dict[str, np.ndarray]:
    attention = f'{source}/MultiHeadDotProductAttention_1'
    state = {}
    for norm, name in (('LayerNorm_0', 'ln1'), ('LayerNorm_2', 'ln2')):
        state[f'{target}.{name}.weight'] = tree[f'{source}/{norm}/scale']
        state[f'{target}.{name}.bias'] = tree[f'{source}/{norm}/bias']
    qkv = [f'{attention}/{name}' for name in ('query', 'key', 'value')]
    state[f'{target}.attn.qkv.weight'] = np.concatenate([tree[f'{n}/kernel'].reshape(width, width).T for n in qkv])
    state[f'{target}.attn.qkv.bias'] = np.concatenate([tree[f'{n}/bias'].reshape(width) for n in qkv])
    state[f'{target}.attn.proj.weight'] = tree[f'{attention}/out/kernel'].reshape(width, width).T
    state[f'{target}.attn.proj.bias'] = tree[f'{attention}/out/bias']
    for dense, name in (('Dense_0', 'ffn.layers.0.0'), ('Dense_1', 'ffn.layers.1')):
        state[f'{target}.{name}.weight'] = tree[f'{source}/{dense}/kernel'].T
        state[f'{target}.{name}.bias'] = tree[f'{source}/{dense}/bias']
    return state
