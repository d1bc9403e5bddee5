"""Linear layers by oneDNN give what those of torch give."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import Linear as WrappedLinear
from torch import Tensor, nn

from mmwsss.ops import OneDNNLinear, use_onednn_linear
from mmwsss.ops.linear import MIN_PRODUCTS, MIN_SIDE, linear, uses_onednn

# shape of x, outputs; more and fewer outputs than inputs
SHAPES = [((512, 96), 128), ((2, 300, 128), 64), ((2, 3, 400, 48), 48)]
needs_onednn = pytest.mark.skipif(
    not uses_onednn(torch.zeros(512, 96), torch.zeros(128, 96)), reason='this torch comes without oneDNN'
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(shape: tuple[int, ...], outputs: int, with_bias: bool = True) -> list[Tensor | None]:
    """x, weight and bias of values around 1 in the product."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator)
    weight = torch.randn(outputs, shape[-1], generator=generator) / shape[-1] ** 0.5
    bias = torch.randn(outputs, generator=generator) if with_bias else None
    return [x, weight, bias]


def run(function, tensors: list[Tensor | None], trained: tuple[bool, ...] = (True, True, True)) -> list[Tensor | None]:
    """Output and the gradients of all arguments."""
    leaves = [t if t is None else t.clone().requires_grad_(flag) for t, flag in zip(tensors, trained)]
    output = function(*leaves)
    if output.requires_grad:
        generator = torch.Generator().manual_seed(1)
        output.backward(torch.randn(output.shape, generator=generator) / output[..., 0].numel() ** 0.5)
    return [output.detach(), *(None if leaf is None else leaf.grad for leaf in leaves)]


def assert_same(found: list[Tensor | None], expected: list[Tensor | None]) -> None:
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert (one is None) == (other is None), index
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@needs_onednn
@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize(('shape', 'outputs'), SHAPES)
def test_values_and_gradients(shape: tuple[int, ...], outputs: int, with_bias: bool) -> None:
    tensors = make(shape, outputs, with_bias)
    assert uses_onednn(*tensors)
    found = run(linear, tensors)
    assert found[1].any()
    assert_same(found, run(F.linear, tensors))
    for once, again in zip(found, run(linear, tensors), strict=True):
        assert once is None or torch.equal(once, again)


@needs_onednn
@pytest.mark.parametrize(
    'trained', [(False, True, True), (True, False, False), (False, False, True), (True, True, False), (False,) * 3]
)
def test_frozen_arguments(trained: tuple[bool, ...]) -> None:
    tensors = make(*SHAPES[1])
    found = run(linear, tensors, trained)
    assert [gradient is not None for gradient in found[1:]] == list(trained)
    assert_same(found, run(F.linear, tensors, trained))


@needs_onednn
def test_only_what_the_gradient_needs_is_kept() -> None:
    x, weight, bias = make(*SHAPES[0])
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        linear(x.requires_grad_(), weight, bias)
    assert [t.shape for t in kept] == [weight.shape]


@needs_onednn
def test_strides() -> None:
    x, weight, bias = make((512, 96), 128)
    crooked = [x.t().contiguous().t(), weight.t().contiguous().t(), bias]
    assert_same(run(linear, crooked), run(F.linear, crooked))
    batch = x.expand(2, 512, 96)
    torch.testing.assert_close(linear(batch, weight, bias), F.linear(batch, weight, bias), atol=1e-5, rtol=1e-5)
    weight.requires_grad_()
    found, expected = (torch.autograd.grad(f(x, weight, bias).mean(), weight)[0] for f in (linear, F.linear))
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-4)  # the gradient of a mean has strides of 0


@needs_onednn
@pytest.mark.filterwarnings('ignore:TF32 acceleration')
def test_what_goes_to_torch() -> None:
    x, weight, bias = make((512, 96), 128)
    assert uses_onednn(x, weight, bias)
    assert not uses_onednn(x.double(), weight.double(), bias.double())
    assert not uses_onednn(x.bfloat16(), weight.bfloat16(), bias.bfloat16())
    assert not uses_onednn(x.to('meta'), weight.to('meta'), bias.to('meta'))
    assert not uses_onednn(x[0], weight, bias)
    assert not uses_onednn(x[: MIN_SIDE - 1].repeat(1, 100), weight.repeat(1, 100), bias), 'few rows'
    assert not uses_onednn(x, weight[: MIN_SIDE - 1]), 'few outputs'
    assert not uses_onednn(x[: MIN_PRODUCTS // weight.numel() - 1], weight), 'few products'
    assert not uses_onednn(x[:0], weight)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert not uses_onednn(x, weight, bias)
        assert linear(x, weight, bias).dtype == torch.bfloat16
    with torch.backends.mkldnn.flags(enabled=False):
        assert not uses_onednn(x, weight, bias)
    assert uses_onednn(x, weight, bias)
    for tensors in ((x.double(), weight.double(), bias.double()), (x[0], weight, bias), (x[:0], weight, None)):
        assert torch.equal(linear(*tensors), F.linear(*tensors))
    with pytest.raises(RuntimeError, match='shapes'):
        linear(x[:, :90], weight, bias)


@needs_onednn
def test_second_derivative_is_refused() -> None:
    x, weight, bias = make(*SHAPES[0])
    (gradient,) = torch.autograd.grad(linear(x.requires_grad_(), weight, bias).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        gradient.sum().backward()


@needs_onednn
@pytest.mark.filterwarnings('ignore::DeprecationWarning')
@pytest.mark.filterwarnings('ignore::FutureWarning')
def test_graphs_hold_operators_of_torch() -> None:
    x, *_ = make((512, 96), 128)
    layer = OneDNNLinear(96, 128).eval()
    expected = F.linear(x, layer.weight, layer.bias)
    traced, scripted = torch.jit.trace(layer, x), torch.jit.script(layer)
    symbolic = torch.fx.symbolic_trace(nn.Sequential(layer))
    exported = torch.export.export(layer, (x,)).module()
    graphs: list[torch.fx.GraphModule] = []
    compiled = torch.compile(layer, backend=lambda graph, _: graphs.append(graph) or graph.forward, fullgraph=True)
    compiled(x)
    for graph in (graphs[0].graph, traced.inlined_graph, scripted.inlined_graph, symbolic.graph, exported.graph):
        assert 'linear' in str(graph)
        assert 'mkldnn' not in str(graph)
    for module in (compiled, traced, scripted, symbolic, exported):
        assert torch.equal(module(x), expected)


class _Special(nn.Linear):
    pass


def test_class_swap() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(48, 64), nn.Sequential(WrappedLinear(64, 64, bias=False)), _Special(64, 48), nn.GELU()
    )
    x = torch.randn(2, 1100, 48)
    before, expected = {name: value.clone() for name, value in net.state_dict().items()}, net(x)
    parameters = [id(p) for p in net.parameters()]
    assert use_onednn_linear(net) is net
    assert [type(m) for m in (net[0], net[1][0], net[2])] == [OneDNNLinear, OneDNNLinear, _Special]
    assert [id(p) for p in net.parameters()] == parameters
    for other in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert type(other[0]) is OneDNNLinear
        assert list(other.state_dict()) == list(before)
        assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
        torch.testing.assert_close(other(x), expected, atol=1e-5, rtol=1e-5)
    assert type(use_onednn_linear(nn.Linear(2, 3))) is OneDNNLinear
    copied = copy.deepcopy(net)
    with torch.no_grad():
        copied[0].weight.zero_()
    assert net[0].weight.any()
