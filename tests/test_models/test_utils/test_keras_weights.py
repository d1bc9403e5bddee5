"""Reading Keras checkpoints of ViT-PCM from files made here."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mmwsss.models.necks import HVBiLSTM
from mmwsss.models.utils.keras_vitpcm import convert_vitpcm_keras, read_keras_h5


def tiny_weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    block = 'Transformer/encoderblock_0'
    shapes = {
        'embedding/kernel': (2, 2, 3, 4), 'embedding/bias': (4,), 'class_token/cls': (1, 1, 4),
        'Transformer/posembed_input/pos_embedding': (1, 5, 4),
        'Transformer/encoder_norm/gamma': (4,), 'Transformer/encoder_norm/beta': (4,),
        f'{block}/Dense_0/kernel': (4, 6), f'{block}/Dense_0/bias': (6,),
        f'{block}/Dense_1/kernel': (6, 4), f'{block}/Dense_1/bias': (4,), 'patch_classifier/kernel': (8, 3),
    }  # fmt: skip
    for norm in ('LayerNorm_0', 'LayerNorm_2'):
        shapes |= {f'{block}/{norm}/gamma': (4,), f'{block}/{norm}/beta': (4,)}
    for name in ('query', 'key', 'value', 'out'):
        attention = f'{block}/MultiHeadDotProductAttention_1/{name}'
        shapes |= {f'{attention}/kernel': (4, 4), f'{attention}/bias': (4,)}
    for number, (way, axis) in enumerate((w, a) for a in ('rows', 'cols') for w in ('forward', 'backward')):
        cell = f'patch_conditioning/{way}_lstm_{axis}/lstm_cell' + (f'_{number}' if number else '')
        shapes |= {f'{cell}/kernel': (4, 8), f'{cell}/recurrent_kernel': (2, 8), f'{cell}/bias': (8,)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def write_h5(path: Path, weights: dict[str, np.ndarray], as_bytes: bool) -> None:
    def text(names: list[str]) -> list:
        return [name.encode() for name in names] if as_bytes else names

    layers: dict[str, list[str]] = {}
    for name in weights:
        layers.setdefault('/'.join(name.split('/')[: 2 if name.startswith('Transformer') else 1]), []).append(name)
    with h5py.File(path, 'w') as file:
        file.attrs['layer_names'] = text([*layers, 'dropout'])
        file.create_group('dropout').attrs['weight_names'] = text([])
        for layer, names in layers.items():
            group = file.require_group(layer)
            group.attrs['weight_names'] = text([f'{name}:0' for name in names])
            for name in names:
                group[f'{name}:0'] = weights[name]


@pytest.mark.parametrize('as_bytes', [True, False])
def test_file_round_trip(tmp_path: Path, as_bytes: bool) -> None:
    weights = tiny_weights()
    write_h5(tmp_path / 'model.h5', weights, as_bytes)
    read = read_keras_h5(tmp_path / 'model.h5')
    assert read.keys() == weights.keys()
    assert all(np.array_equal(read[name], value) for name, value in weights.items())


def test_cells_of_any_number_go_to_their_lstm() -> None:
    weights = tiny_weights()
    state = convert_vitpcm_keras({f'{name}:0': value for name, value in weights.items()})
    neck = HVBiLSTM(4, hidden=2)
    neck.load_state_dict({name[5:]: value for name, value in state.items() if name.startswith('neck.')})
    for target, source in (
        ('row_fwd', 'forward_lstm_rows/lstm_cell'), ('row_bwd', 'backward_lstm_rows/lstm_cell_1'),
        ('col_fwd', 'forward_lstm_cols/lstm_cell_2'), ('col_bwd', 'backward_lstm_cols/lstm_cell_3'),
    ):  # fmt: skip
        lstm = getattr(neck, target)
        np.testing.assert_array_equal(lstm.weight_ih_l0.detach().T, weights[f'patch_conditioning/{source}/kernel'])
        np.testing.assert_array_equal(
            lstm.weight_hh_l0.detach().T, weights[f'patch_conditioning/{source}/recurrent_kernel']
        )
        np.testing.assert_array_equal(lstm.bias_ih_l0.detach(), weights[f'patch_conditioning/{source}/bias'])
        assert torch.equal(lstm.bias_hh_l0, torch.zeros(8))
    np.testing.assert_array_equal(state['head.classifier.weight'].T, weights['patch_classifier/kernel'])
    qkv = state['backbone.layers.0.attn.qkv.weight']
    key = weights['Transformer/encoderblock_0/MultiHeadDotProductAttention_1/key/kernel']
    np.testing.assert_array_equal(qkv[4:8].T, key)


def test_unknown_layer() -> None:
    with pytest.raises(ValueError, match=r'unknown layers: batch_norm/gamma \(1\)'):
        convert_vitpcm_keras({**tiny_weights(), 'batch_norm/gamma': np.zeros(3)})


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='no checkpoint at'):
        read_keras_h5(tmp_path / 'none.h5')
    (tmp_path / 'text.h5').write_text('no HDF5')
    with pytest.raises(ValueError, match=r'text\.h5 is no HDF5 file'):
        read_keras_h5(tmp_path / 'text.h5')
    with h5py.File(tmp_path / 'plain.h5', 'w') as file:
        file['a'] = np.zeros(2)
    with pytest.raises(ValueError, match=r'plain\.h5 has no attribute layer_names'):
        read_keras_h5(tmp_path / 'plain.h5')


@pytest.mark.parametrize(
    ('dropped', 'message'),
    [
        ('embedding/', 'no weights of embedding/'),
        ('class_token/', 'no weights of class_token/'),
        ('Transformer/encoderblock_0/', 'no weights of Transformer/encoderblock_'),
        ('Transformer/encoder_norm/gamma', "no weight 'Transformer/encoder_norm/scale'"),
    ],
)
def test_incomplete_backbone(dropped: str, message: str) -> None:
    weights = {name: value for name, value in tiny_weights().items() if not name.startswith(dropped)}
    with pytest.raises(ValueError, match=message):
        convert_vitpcm_keras(weights)
