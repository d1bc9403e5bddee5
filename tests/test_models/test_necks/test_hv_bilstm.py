"""HV-BiLSTM: order of channels, directions, dropout and initial weights."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from mmwsss.models.necks import HVBiLSTM

HIDDEN = 3


def lstm_steps(x: np.ndarray, lstm: torch.nn.LSTM) -> np.ndarray:
    """An LSTM over ``x`` (steps, D), gate by gate."""
    w, u, b = (getattr(lstm, name).detach().double().numpy() for name in ('weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0'))
    h, c, outputs = np.zeros(u.shape[1]), np.zeros(u.shape[1]), []
    for step in x:
        i, f, g, o = np.split(w @ step + u @ h + b, 4)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


def reference(neck: HVBiLSTM, x: np.ndarray) -> np.ndarray:
    batch, _, height, width = x.shape
    out = np.zeros((batch, neck.out_channels, height, width))
    for b in range(batch):
        for n, name in enumerate(neck.names):
            lstm, channels = getattr(neck, name), slice(n * HIDDEN, (n + 1) * HIDDEN)
            step = -1 if name.endswith('bwd') else 1
            for line in range(height if name.startswith('row') else width):
                sequence = x[b, :, line] if name.startswith('row') else x[b, :, :, line]
                result = lstm_steps(sequence.T[::step], lstm)[::step].T
                if name.startswith('row'):
                    out[b, channels, line] = result
                else:
                    out[b, channels, :, line] = result
    return out


@pytest.mark.parametrize(
    ('directions', 'names'),
    [
        ('hv', ['row_fwd', 'row_bwd', 'col_fwd', 'col_bwd']),
        ('h', ['row_fwd', 'row_bwd']),
        ('v', ['col_fwd', 'col_bwd']),
    ],
)
def test_values_on_a_rectangular_grid(directions: str, names: list[str]) -> None:
    neck = HVBiLSTM(4, hidden=HIDDEN, directions=directions).eval()
    assert neck.names == names
    assert neck.out_channels == HIDDEN * len(names)
    x = torch.randn(2, 4, 3, 5)
    out = neck(x)
    assert out.shape == (2, neck.out_channels, 3, 5)
    np.testing.assert_allclose(out.detach().numpy(), reference(neck, x.double().numpy()), atol=1e-5)


def test_gradients() -> None:
    neck = HVBiLSTM(2, hidden=2).double().eval()
    assert gradcheck(neck, torch.randn(1, 2, 2, 3, dtype=torch.float64, requires_grad=True))


def test_second_bias_stays_zero_and_untrained() -> None:
    neck = HVBiLSTM(4, hidden=HIDDEN)
    neck(torch.randn(2, 4, 3, 3)).square().sum().backward()
    torch.optim.SGD(neck.parameters(), lr=1.0, weight_decay=0.1).step()
    for name, parameter in neck.named_parameters():
        if 'bias_hh' in name:
            assert not parameter.requires_grad
            assert torch.equal(parameter, torch.zeros(4 * HIDDEN))
        else:
            assert parameter.grad.abs().sum() > 0, name


def test_initial_weights() -> None:
    neck = HVBiLSTM(4, hidden=HIDDEN)
    for name in neck.names:
        lstm = getattr(neck, name)
        expected = torch.zeros(4 * HIDDEN)
        expected[HIDDEN : 2 * HIDDEN] = 1
        assert torch.equal(lstm.bias_ih_l0, expected)
        torch.testing.assert_close(lstm.weight_hh_l0.T @ lstm.weight_hh_l0, torch.eye(HIDDEN), atol=1e-5, rtol=0)
        assert lstm.weight_ih_l0.abs().max() <= (6 / (4 + 4 * HIDDEN)) ** 0.5


def test_every_lstm_draws_its_own_dropout_in_training_only() -> None:
    neck = HVBiLSTM(4, hidden=HIDDEN, dropout=0.5)
    x = torch.ones(1, 4, 4, 4)
    seen = []
    forward = torch.nn.Dropout.forward

    def spy(self, features):
        seen.append(forward(self, features))
        return seen[-1]

    with mock.patch.object(torch.nn.Dropout, 'forward', spy):
        neck.train()(x)
    assert len(seen) == 5  # one shared, one per LSTM
    kept_once = seen[0] > 0
    own = [s.unflatten(0, (1, 4)).permute(0, 3, 1, 2) for s in seen[1:3]]
    own += [s.unflatten(0, (1, 4)).permute(0, 3, 2, 1) for s in seen[3:]]
    masks = [o > 0 for o in own]
    assert all((~kept_once & mask).sum() == 0 for mask in masks)
    assert all(not torch.equal(a, b) for i, a in enumerate(masks) for b in masks[i + 1 :])
    neck.eval()
    assert torch.equal(neck(x), neck(x))
    without = HVBiLSTM(4, hidden=HIDDEN, dropout=0.0).train()
    assert torch.equal(without(x), without(x))


def test_runs_and_learns_under_bfloat16() -> None:
    neck = HVBiLSTM(4, hidden=HIDDEN)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = neck.eval()(torch.randn(1, 4, 3, 2))
    assert out.isfinite().all()
    out.float().sum().backward()
    assert neck.row_fwd.weight_ih_l0.grad.isfinite().all()


def test_unknown_direction() -> None:
    with pytest.raises(ValueError, match="'hv', 'h' or 'v', got 'd'"):
        HVBiLSTM(4, directions='d')


def test_a_given_init_cfg_wins(tmp_path) -> None:
    source = HVBiLSTM(5, hidden=3)
    torch.save(source.state_dict(), tmp_path / 'neck.pth')
    neck = HVBiLSTM(5, hidden=3, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'neck.pth')))
    plain = HVBiLSTM(5, hidden=3)
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    neck.init_weights()
    plain.init_weights()
    for name, value in source.state_dict().items():
        assert torch.equal(neck.state_dict()[name], value)
        assert torch.equal(plain.state_dict()[name], before[name])
