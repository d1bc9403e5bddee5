"""Reading the segmentation checkpoints of PMM."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Layers of the official Res2Net stem, a Sequential, and those of mmpretrain's.
RES2NET_STEM = {
    'conv1.0': 'stem.0.conv',
    'conv1.1': 'stem.0.bn',
    'conv1.3': 'stem.1.conv',
    'conv1.4': 'stem.1.bn',
    'conv1.6': 'stem.2.conv',
    'bn1': 'stem.2.bn',
}
_NORM = r'(weight|bias|running_mean|running_var|num_batches_tracked)'
_LAYERS = dict(
    resnet38=re.compile(
        rf'(conv1a\.weight|b[2-7](_\d+)?\.(conv_branch\w+\.weight|bn_branch\w+\.{_NORM})|bn7\.{_NORM})$'
    ),
    # Also ScaleNet, whose convolutions and norms are numbered by branch.
    residual=re.compile(
        rf'(conv1\.(\d\.)?{_NORM}|bn1\.{_NORM}'
        rf'|layer[1-4]\.\d+\.(conv\d|bn\d|convs\.\d|bns\.\d|conv\d\.\d|bn\d\.\d|downsample\.\d)\.{_NORM})$'
    ),
)
_HEADS = re.compile(
    r'(decode_head|auxiliary_head)\.(psp_modules\.\d\.1\.|bottleneck\.|convs\.\d\.|conv_seg\.)'
    rf'(conv\.|bn\.)?{_NORM}$'
)
_UNUSED = re.compile(r'fc\.(weight|bias)$')  # the classifier of the pretraining


def read_pmm_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a file of PMM, wrapped or not; nothing in the file is executed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no torch file, holds objects of other programs, or no state dict.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'no checkpoint at {path}')
    try:
        state: Any = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged or hostile file fails in any way inside the unpickler
        foreign = re.search(r'GLOBAL (\S+)', str(error)) if isinstance(error, pickle.UnpicklingError) else None
        found = f'holds {foreign[1]}' if foreign else f'cannot be read ({type(error).__name__})'
        raise ValueError(f'{path} {found}; expected a torch file of tensors') from error
    for wrapper in ('state_dict', 'model', 'main'):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f'{path} holds no state dict; expected the weights that the segmentation of PMM saves')
    return {name.removeprefix('module.'): value for name, value in state.items()}


def convert_pmm_seg(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of an official PSPNet, or of its backbone alone, to those of our configs, float32.

    Backbones are ResNet38d and ScaleNet, whose names stay, and Res2Net v1b, whose stem mmpretrain names in its own way.
    The classifier of an ImageNet file is dropped.

    Raises:
        ValueError: a weight is of no known layer.
    """
    whole = any(name.startswith('backbone.') for name in state_dict)
    prefix = 'backbone.' if whole else ''
    inner = {name.removeprefix(prefix) for name in state_dict if name.startswith(prefix)}
    is_res2net = 'conv1.0.weight' in inner
    state, unknown = {}, []
    for name, value in state_dict.items():
        if whole and _HEADS.match(name):
            ours = name
        elif name.startswith(prefix) and any(kind.match(name[len(prefix) :]) for kind in _LAYERS.values()):
            ours = prefix + (_res2net_name(name[len(prefix) :]) if is_res2net else name[len(prefix) :])
        elif not whole and _UNUSED.match(name):
            continue
        else:
            unknown.append(name)
            continue
        state[ours] = value.float().contiguous() if value.is_floating_point() else value
    if unknown or not state:
        found = f'{", ".join(unknown[:3])} ({len(unknown)})' if unknown else 'none at all'
        raise ValueError(f'weights of unknown layers: {found}; is this a PSPNet of PMM, or its ImageNet backbone?')
    return state


def _res2net_name(name: str) -> str:
    match = re.match(r'(conv1\.\d|bn1)\.', name)
    return f'{RES2NET_STEM[match[1]]}.{name[match.end() :]}' if match else name
