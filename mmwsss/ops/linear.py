"""Linear layers that multiply with oneDNN on the CPU, where torch would call a slower BLAS."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import Linear as WrappedLinear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import has_torch_function

# Below either of them, calling the other library costs about as much as it saves.
MIN_SIDE = 16
MIN_PRODUCTS = 2**22

_HAS_ONEDNN = (
    torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, '_linear_pointwise')
    and hasattr(torch.compiler, 'is_compiling')
    and hasattr(torch, 'get_autocast_dtype')  # came with the argument of is_autocast_enabled
)


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x`` (..., K) times the transpose of ``weight`` (N, K) plus ``bias`` (N,), without a gradient."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')


class _OneDNNLinear(torch.autograd.Function):
    """:func:`linear` by oneDNN, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        needs_x, needs_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if needs_weight else None, weight if needs_x else None)
        return _multiply(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = grad_bias = None
        grad = grad.contiguous()  # that of a sum is one number with strides of 0
        rows = grad.flatten(0, -2)
        if weight is not None:
            grad_x = _multiply(grad, weight.t())
        if x is not None:
            tokens = x.flatten(0, -2)
            if rows.shape[1] < tokens.shape[1]:  # faster with the shorter side as rows
                grad_weight = _multiply(rows.t(), tokens.t())
            else:
                grad_weight = _multiply(tokens.t(), rows.t()).t()
        if ctx.needs_input_grad[2]:
            grad_bias = rows.sum(dim=0)
        return grad_x, grad_weight, grad_bias


def uses_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether :func:`linear` takes oneDNN for these arguments; see there."""
    if not _HAS_ONEDNN or torch.compiler.is_compiling() or has_torch_function((x, weight, bias)):
        return False
    if torch.jit.is_tracing() or torch.onnx.is_in_onnx_export():
        return False
    tensors = (x, weight) if bias is None else (x, weight, bias)
    if any(t.device.type != 'cpu' or t.dtype != torch.float32 or t.layout != torch.strided for t in tensors):
        return False
    if x.dim() < 2 or x.shape[-1] != weight.shape[-1]:
        return False
    sides = (x.numel() // max(x.shape[-1], 1), *weight.shape)
    if min(sides) < MIN_SIDE or x.numel() * weight.shape[0] < MIN_PRODUCTS:
        return False
    return torch.backends.mkldnn.enabled and not torch.is_autocast_enabled('cpu')


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``torch.nn.functional.linear``, by oneDNN where torch's own route on the CPU can be slow.

    The BLAS that torch is built with (MKL) reaches about half the speed of an AMD CPU with AVX-512; where it reaches
    all of it, there is nothing to gain. Results differ by rounding. oneDNN is taken for float32 on the CPU, outside of
    autocast, compilation, tracing and export, for matrices with sides of at least ``MIN_SIDE`` and at least
    ``MIN_PRODUCTS`` products; everything else goes to ``F.linear``. ``torch.backends.mkldnn.flags(enabled=False)``
    turns it off. A second derivative raises RuntimeError on this route.

    Args:
        x: (..., K).
        weight: (N, K).
        bias: (N,) or None.

    Returns:
        (..., N).
    """
    if not uses_onednn(x, weight, bias):
        return F.linear(x, weight, bias)
    return _OneDNNLinear.apply(x, weight, bias)


class OneDNNLinear(nn.Linear):
    """``nn.Linear`` whose forward is :func:`linear`; same arguments, same state dict."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (..., in_features) to (..., out_features)."""
        if torch.jit.is_scripting():
            return F.linear(x, self.weight, self.bias)
        else:  # the compiler of scripts leaves out an else, but not what follows a return
            return linear(x, self.weight, self.bias)


def use_onednn_linear(module: nn.Module) -> nn.Module:
    """Make every plain linear layer inside ``module`` an :class:`OneDNNLinear`, in place; subclasses stay as they are.

    Returns:
        ``module``, for chaining; a linear layer itself changes too.
    """
    for layer in module.modules():
        if type(layer) in (nn.Linear, WrappedLinear):
            layer.__class__ = OneDNNLinear
    return module
