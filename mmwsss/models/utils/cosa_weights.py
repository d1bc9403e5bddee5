"""Reading the released checkpoints of CoSA."""

from __future__ import annotations

import argparse
import pathlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .official_checkpoints import refuse_unknown, require_layers
from .vit_weights import convert_timm_vit

STREAMS = {'both': ('online', 'assignment'), 'online': ('online',), 'assignment': ('assignment',)}
_DETAILS = {'s_or_t': str, 'epoch': int}
_ENCODER = re.compile(
    r'(cls_token|pos_embed|(patch_embed\.proj|norm|head|blocks\.\d+\.(norm[12]|attn\.(qkv|proj)|mlp\.fc[12]))'
    r'\.(weight|bias))$'
)
_HEADS = [
    (r'decoder\.(conv[67])\.weight$', r'decode_head.\1.weight'),
    (r'decoder\.conv8\.weight$', 'decode_head.conv_seg.weight'),
    (r'classifier\.weight$', 'head.classifier.weight'),
    (r'aux_classifier\.weight$', 'aux_head.classifier.weight'),
    # The optional mask transformer, under the names of mmseg's SegmenterMaskTransformerHead.
    (r'decoder\.cls_emb$', 'decode_head.cls_emb'),
    (r'decoder\.proj_dec\.(weight|bias)$', r'decode_head.dec_proj.\1'),
    (r'decoder\.proj_patch$', 'decode_head.patch_proj.weight'),
    (r'decoder\.proj_classes$', 'decode_head.classes_proj.weight'),
    (r'decoder\.(decoder_norm|mask_norm)\.(weight|bias)$', r'decode_head.\1.\2'),
    (r'decoder\.blocks\.(\d+)\.norm([12])\.(weight|bias)$', r'decode_head.layers.\1.ln\2.\3'),
    (r'decoder\.blocks\.(\d+)\.attn\.qkv\.(weight|bias)$', r'decode_head.layers.\1.attn.attn.in_proj_\2'),
    (r'decoder\.blocks\.(\d+)\.attn\.proj\.(weight|bias)$', r'decode_head.layers.\1.attn.attn.out_proj.\2'),
    (r'decoder\.blocks\.(\d+)\.mlp\.fc1\.(weight|bias)$', r'decode_head.layers.\1.ffn.layers.0.0.\2'),
    (r'decoder\.blocks\.(\d+)\.mlp\.fc2\.(weight|bias)$', r'decode_head.layers.\1.ffn.layers.1.\2'),
]
_PARTS = dict(encoder='backbone.', classifier='head.', aux_classifier='aux_head.', decoder='decode_head.')
_TRANSPOSED = ('decoder.proj_patch', 'decoder.proj_classes')  # factors on the right, not the weights of linear layers


def read_cosa_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of the official training: its tensors, and where told the stream ``s_or_t`` and iteration ``epoch``.

    The file holds the arguments of the run beside the tensors, so plain ``weights_only`` refuses it; two classes are
    allowed here for the time of reading, ``argparse.Namespace`` and paths, and nothing in the file is executed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no torch file, holds objects of other classes, or has no state dict under 'model'.
        RuntimeError: torch is older than 2.6 and cannot read it safely.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'no checkpoint at {path}')
    if not hasattr(torch.serialization, 'get_unsafe_globals_in_checkpoint'):
        raise RuntimeError(f'reading {path} safely needs torch 2.6 or newer, this is {torch.__version__}')
    try:
        with torch.serialization.safe_globals(_allowed_classes()):
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged or hostile file fails in any way inside the unpickler
        foreign = re.search(r'GLOBAL (\S+)', str(error)) if isinstance(error, pickle.UnpicklingError) else None
        found = f'holds {foreign[1]}' if foreign else f'cannot be read ({type(error).__name__})'
        raise ValueError(
            f'{path} {found}; expected a torch file of tensors, plain values, an argparse.Namespace and paths'
        ) from error
    state = checkpoint.get('model') if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} has no state dict under 'model'; expected a checkpoint of the official CoSA training")
    details = {name: checkpoint.get(name) for name in _DETAILS}
    return dict(state), {name: value for name, value in details.items() if isinstance(value, _DETAILS[name])}


def convert_cosa(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of one official network to ``backbone``, ``head``, ``aux_head`` and ``decode_head``, float32.

    The classifier of the pretraining, which CoSA carries along unused, is dropped.

    Raises:
        ValueError: a weight is of no known layer, or one of the four parts is missing.
    """
    encoder, state, unknown = {}, {}, []
    for name, value in state_dict.items():
        if name.startswith('encoder.') and _ENCODER.match(name[len('encoder.') :]):
            encoder[name[len('encoder.') :]] = value.float()
        elif (ours := _rename(name)) is not None:
            state[ours] = (value.mT if name in _TRANSPOSED else value).float().contiguous()
        else:
            unknown.append(name)
    refuse_unknown(unknown, 'a network of CoSA')
    state.update({f'backbone.{name}': value for name, value in convert_timm_vit(encoder).items()})
    require_layers(state, _PARTS, len(state_dict), 'a whole network of CoSA')
    return state


def with_streams(state: Mapping[str, Tensor], stream: str = 'both') -> dict[str, Tensor]:
    """Put one network of :func:`convert_cosa` under 'online.', 'assignment.' or both prefixes of our segmentor.

    Raises:
        ValueError: unknown ``stream``.
    """
    if stream not in STREAMS:
        raise ValueError(f'stream has to be one of {tuple(STREAMS)}, got {stream!r}')
    return {f'{prefix}.{name}': value for prefix in STREAMS[stream] for name, value in state.items()}


def _rename(name: str) -> str | None:
    return next((match.expand(target) for pattern, target in _HEADS if (match := re.match(pattern, name))), None)


def _allowed_classes() -> list[type | tuple[type, str]]:
    # Pure paths, because a file of one system holds paths that another cannot make; Python 3.13 moved the classes.
    paths = [
        (pure, f'{module}.{name}')
        for module in ('pathlib', 'pathlib._local')
        for pure, names in (
            (pathlib.PurePosixPath, ('PosixPath', 'PurePosixPath')),
            (pathlib.PureWindowsPath, ('WindowsPath', 'PureWindowsPath')),
        )
        for name in names
    ]
    return [argparse.Namespace, *paths]
