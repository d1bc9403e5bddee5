"""Arithmetic of a training step, and how much of it a device could do."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from mmwsss.ops.linear import linear

SIDE = {'cpu': 1536, 'cuda': 8192}  # of the matrices that find the peak
TURNS = 5


def _linear(x: list[int], weight: list[int], *args: Any, **kwargs: Any) -> int:
    return 2 * prod(x) * weight[0]


def _attention(query: list[int], key: list[int], value: list[int], *args: Any, **kwargs: Any) -> int:
    return 2 * prod(query) * key[-2] + 2 * prod(query[:-1]) * key[-2] * value[-1]


def _attention_backward(grad: list[int], query: list[int], key: list[int], *args: Any, **kwargs: Any) -> int:
    # Five products of the size of the two forward ones: the weights once more, and four gradients.
    return 5 * 2 * prod(query) * key[-2]


def _lstm(x: list[int], weight: list[int], recurrent: list[int], *args: Any, **kwargs: Any) -> int:
    return 2 * prod(x[:2]) * (prod(weight) + prod(recurrent))


def _lstm_backward(x: list[int], weight: list[int], recurrent: list[int], *args: Any, **kwargs: Any) -> int:
    return 2 * _lstm(x, weight, recurrent)


def _known() -> dict[Any, Callable[..., int]]:
    """Operators that torch does not count by itself: those of the CPU."""
    aten = torch.ops.aten
    formulas = {
        (aten, '_scaled_dot_product_flash_attention_for_cpu'): _attention,
        (aten, '_scaled_dot_product_flash_attention_for_cpu_backward'): _attention_backward,
        (aten, 'mkldnn_rnn_layer'): _lstm,
        (aten, 'mkldnn_rnn_layer_backward'): _lstm_backward,
        (torch.ops.mkldnn, '_linear_pointwise'): _linear,
    }
    return {
        getattr(library, name): formula for (library, name), formula in formulas.items() if hasattr(library, name)
    }  # fmt: skip


def counter() -> FlopCounterMode:
    """Counter of the multiplications and additions of matrix products, attention, convolutions and LSTMs."""
    return FlopCounterMode(display=False, custom_mapping=_known())


def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a large product of matrices of ``dtype``, the best of several."""
    side = SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    # The faster of both libraries that a CPU has; elsewhere they are the same.
    multiply = [torch.mm, linear] if device.type == 'cpu' and dtype == torch.float32 else [torch.mm]
    return max(2 * side**3 / _seconds(call, a, b) for call in multiply for _ in range(TURNS))


def _seconds(call: Callable, a: torch.Tensor, b: torch.Tensor) -> float:
    if a.is_cuda:
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call(a, b)
        stop.record()
        torch.cuda.synchronize(a.device)
        return start.elapsed_time(stop) / 1e3
    begin = time.perf_counter()
    call(a, b)
    return time.perf_counter() - begin
