"""Reading the released Keras checkpoints of ViT-PCM."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from .official_checkpoints import refuse_unknown, require_layers
from .vit_weights import convert_flax_vit

_LSTM = re.compile(r'patch_conditioning/(forward|backward)_lstm_(rows|cols)/lstm_cell(?:_\d+)?/(\w+)$')
_CLASSIFIER = 'patch_classifier/kernel'
_BACKBONE_LAYERS = {
    name: name for name in ('embedding/', 'class_token/', 'Transformer/posembed_input/', 'Transformer/encoderblock_')
}


def read_keras_h5(path: str | Path) -> dict[str, np.ndarray]:
    """Read a file of Keras ``save_weights`` into {weight path without ':0': array}.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no HDF5 file of Keras weights.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'no checkpoint at {path}')
    if not h5py.is_hdf5(path):
        raise ValueError(f'{path} is no HDF5 file; expected the .h5 that Keras save_weights writes')
    with h5py.File(path, 'r') as file:
        if 'layer_names' not in file.attrs:
            raise ValueError(f'{path} has no attribute layer_names; expected the .h5 that Keras save_weights writes')
        weights = {}
        for layer in file.attrs['layer_names']:
            group = file[_text(layer)]
            for name in group.attrs['weight_names']:
                weights[re.sub(r':0$', '', _text(name))] = np.asarray(group[_text(name)])
    return weights


def convert_vitpcm_keras(weights: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Rename and reorder Keras weights of ViT-PCM into the state dict of our :class:`ViTPCM`.

    Raises:
        ValueError: a weight is of no known layer, or the backbone is not complete.
    """
    weights = {re.sub(r':0$', '', name): value for name, value in weights.items()}
    lstm = {name: match for name in weights if (match := _LSTM.match(name))}
    backbone = {name: value for name, value in weights.items() if name not in lstm and name != _CLASSIFIER}
    unknown = [n for n in backbone if not n.startswith(('embedding/', 'class_token/', 'Transformer/'))]
    refuse_unknown(unknown, 'a ViT-PCM file')
    require_layers(backbone, _BACKBONE_LAYERS, len(weights), 'a whole ViT-PCM file')
    try:
        converted = convert_flax_vit(backbone)
    except KeyError as error:
        raise ValueError(f'the backbone has no weight {error}; is this a whole ViT-PCM file?') from error
    state = {f'backbone.{name}': value for name, value in converted.items()}
    for name, match in lstm.items():
        state.update(_lstm_entries(match, np.asarray(weights[name])))
    if _CLASSIFIER in weights:
        state['head.classifier.weight'] = _tensor(np.asarray(weights[_CLASSIFIER]).T)
    return state


def _lstm_entries(match: re.Match, value: np.ndarray) -> dict[str, Tensor]:
    way, axis, leaf = match.groups()
    target = f'neck.{axis[:3]}_{"fwd" if way == "forward" else "bwd"}'
    if leaf == 'kernel':
        return {f'{target}.weight_ih_l0': _tensor(value.T)}
    if leaf == 'recurrent_kernel':
        return {f'{target}.weight_hh_l0': _tensor(value.T)}
    return {f'{target}.bias_ih_l0': _tensor(value), f'{target}.bias_hh_l0': torch.zeros(len(value))}


def _tensor(value: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(value)).float()


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
