"""Reading the released checkpoints of ACR."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .official_checkpoints import read_state_dict, refuse_unknown, require_layers
from .vit_weights import convert_timm_vit

_VIT = 'pretrained.model.'
_BACKBONE = re.compile(
    r'(cls_token|pos_embed|(patch_embed\.proj|blocks\.\d+\.(norm[12]|attn\.(qkv|proj)|mlp\.fc[12])'
    r'|patch_embed\.backbone\.(stem|stages\.\d+\.blocks\.\d+(\.downsample)?)\.(conv|norm)[123]?)\.(weight|bias))$'
)
# The final norm is computed and thrown away; the others serve depth estimation or the pretraining.
_UNUSED = re.compile(r'(pretrained\.model\.(norm\.|head\.|bkg_token$)|scratch\.|pretrained\.act_postprocess)')
_PARTS = {'cls_head': 'head.classifier.', 'pretrained.model': 'backbone.'}


def read_acr_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read a file of the official training, a plain state dict; nothing in the file is executed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no torch file, holds other objects than tensors, or is no state dict.
    """
    return read_state_dict(path, 'the official training of ACR')


def convert_acr(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of the official network to ``backbone`` and ``head`` of our segmentor, float32.

    Weights that no output depends on are dropped: the final norm, the token of the background, the classifier of the
    pretraining and the layers left from depth estimation.

    Raises:
        ValueError: a weight is of no known layer, or the transformer or the classifier is missing.
    """
    state, unknown = {}, []
    for name, value in state_dict.items():
        if (ours := acr_name(name)) is not None:
            state[ours] = value.float().contiguous()
        elif not _UNUSED.match(name):
            unknown.append(name)
    refuse_unknown(unknown, 'a network of ACR with one class token')
    require_layers(state, _PARTS, len(state_dict), 'a whole network of ACR')
    return state


def acr_name(name: str) -> str | None:
    """Our name of an official weight; None where our network has no such weight."""
    if match := re.match(r'cls_head\.(weight|bias)$', name):
        return f'head.classifier.{match[1]}'
    if name.startswith(_VIT) and _BACKBONE.match(name[len(_VIT) :]):
        (ours,) = convert_timm_vit({name[len(_VIT) :]: torch.empty(0)})
        return f'backbone.{ours}'
    return None
