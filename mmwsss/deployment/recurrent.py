"""An LSTM that stays one operator in an exported program; the exporter would unroll it at the length of its example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mmwsss.apis.errors import UsageError


@torch.library.custom_op('mmwsss::lstm', mutates_args=())
def lstm(x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    """Outputs (N, T, H) of a one-way LSTM layer on ``x`` (N, T, D) from a state of zeros.

    Weights (4H, D) and (4H, H) and biases (4H,) in the order of ``nn.LSTM``: input, forget, cell and output gate.
    """
    state = x.new_zeros(1, x.shape[0], weight_hh.shape[1])
    weights = [weight_ih, weight_hh, bias_ih, bias_hh]
    return torch.lstm(x, [state, state], weights, True, 1, 0.0, False, False, True)[0].contiguous()


@lstm.register_fake
def _(x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], weight_hh.shape[1])


class ExportedLSTM(nn.Module):
    """Stands for an ``nn.LSTM`` in a network that is exported.

    Raises:
        UsageError: the layer has several layers or directions, or another layout than (N, T, D) with biases.
    """

    def __init__(self, layer: nn.LSTM) -> None:
        super().__init__()
        plain = layer.num_layers == 1 and layer.batch_first and layer.bias and layer.proj_size == 0
        if not plain or layer.bidirectional:
            raise UsageError('only LSTMs of one layer and direction, batch_first and with bias can be exported')
        for name in ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh'):
            self.register_parameter(name, getattr(layer, f'{name}_l0'))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Outputs (N, T, H) of ``x`` (N, T, D), and nothing in the place of the last state."""
        return lstm(x, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh), None


def onnx_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What ``torch.onnx.export`` needs to know of :func:`lstm`; onnxscript has to be installed."""
    from onnxscript import opset18 as op

    def by_gates(value: Any) -> Any:
        """Rows in the order of ONNX: input, output, forget and cell gate."""
        size = value.shape[0] // 4
        rows = [gate * size + row for gate in (0, 3, 1, 2) for row in range(size)]
        return op.Gather(value, op.Constant(value_ints=rows), axis=0)

    def translate(x: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any) -> Any:
        first = op.Constant(value_ints=[0])
        steps = op.Transpose(x, perm=[1, 0, 2])  # N T D -> T N D
        weights = [op.Unsqueeze(by_gates(weight), first) for weight in (weight_ih, weight_hh)]
        bias = op.Unsqueeze(op.Concat(by_gates(bias_ih), by_gates(bias_hh), axis=0), first)
        outputs, _, _ = op.LSTM(steps, *weights, bias, hidden_size=weight_hh.shape[1])
        return op.Transpose(op.Squeeze(outputs, op.Constant(value_ints=[1])), perm=[1, 0, 2])  # T 1 N H -> N T H

    return {torch.ops.mmwsss.lstm.default: translate}
