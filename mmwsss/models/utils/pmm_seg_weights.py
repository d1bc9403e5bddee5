"""Reading the segmentation checkpoints of PMM."""

from __future__ import annotations

import re
from collections.abc import Mapping

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
