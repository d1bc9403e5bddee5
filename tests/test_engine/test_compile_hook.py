"""Compiled backbones and heads: the same losses, one compilation, the names of a checkpoint."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from method_steps import METHODS, make_step
from torch import nn
from torch._dynamo.utils import counters

from mmwsss.engine.hooks import CompileHook
from mmwsss.engine.hooks.compile_hook import compile_parts


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch._dynamo.reset()
    counters.clear()


# Methods whose parts are all compiled for others as well, or take long to compile.
SLOW = ('cosa_released', 'pspnet', 'seam')


@pytest.mark.parametrize('method', [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in METHODS])
def test_losses_are_equal_and_nothing_is_compiled_twice(method: str) -> None:
    plain, compiled = make_step(method), make_step(method)
    names = list(compiled.model.state_dict())
    parts = compile_parts(compiled.model, backend='eager')
    assert {name.rpartition('.')[2] for name in parts} >= {'backbone'}
    graphs = []
    for seed in range(2):
        expected, found = plain.losses(seed), compiled.losses(seed)
        graphs.append(counters['stats']['unique_graphs'])
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, msg=name)
        compiled.model.parse_losses(found)[0].backward()
    assert graphs[0] > 0
    assert graphs[0] == graphs[1]
    assert not counters['graph_break']
    assert list(compiled.model.state_dict()) == names
    plain.total(0).backward()
    assert {name for name, p in compiled.model.named_parameters() if p.grad is not None} == {
        name for name, p in plain.model.named_parameters() if p.grad is not None
    }


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(2, 2)
        self.other = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.other(self.backbone(x))


def test_a_copy_runs_its_own_weights() -> None:
    net, x = Net(), torch.ones(1, 2)
    compile_parts(net, backend='eager')
    before = net(x)
    copied = deepcopy(net)
    with torch.no_grad():
        copied.backbone.weight.add_(1)
    assert torch.equal(net(x), before)
    assert not torch.equal(copied(x), before)


def test_hook_compiles_targets_once() -> None:
    net = Net()
    hook = CompileHook(targets=['other'], backend='eager')
    hook.before_run(SimpleNamespace(model=net))
    first = net.other.forward
    hook.before_run(SimpleNamespace(model=net))
    assert net.other.forward is first
    assert 'forward' not in vars(net.backbone)
    net(torch.ones(1, 2))
    assert counters['stats']['unique_graphs'] == 1


def test_targets_that_are_not_there() -> None:
    with pytest.raises(ValueError, match='Net has none of the parts neck'):
        CompileHook(targets=['neck']).before_run(SimpleNamespace(model=Net()))
