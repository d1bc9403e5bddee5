"""Weights and batches with the channels last."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from method_steps import METHODS, make_step
from mmengine.registry import init_default_scope
from torch import nn

from mmwsss.engine.hooks import ChannelsLastHook
from mmwsss.registry import MODELS


def is_last(tensor: torch.Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


@pytest.mark.parametrize('method', ['pspnet', 'vitpcm'])
def test_losses_and_names_stay(method: str) -> None:
    assert method in METHODS
    plain, changed = make_step(method), make_step(method)
    state = {name: value.clone() for name, value in changed.model.state_dict().items()}
    ChannelsLastHook().before_run(SimpleNamespace(model=changed.model))
    changed.model.data_preprocessor.memory_format = torch.channels_last
    assert state.keys() == changed.model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in changed.model.state_dict().items())
    expected, found = plain.losses(), changed.losses()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_features_of_a_cnn_have_the_format_and_values() -> None:
    init_default_scope('mmwsss')
    torch.manual_seed(0)
    net = MODELS.build(dict(type='mmpretrain.Res2Net', depth=50))
    net.eval()
    images = torch.rand(1, 3, 33, 40)
    with torch.no_grad():
        expected = net(images)[-1]
        ChannelsLastHook(['backbone']).before_run(SimpleNamespace(model=nn.ModuleDict(dict(backbone=net))))
        found = net(images)[-1]
    assert is_last(found)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_part_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="ModuleDict has no submodule 'backbone'"):
        ChannelsLastHook(['backbone']).before_run(SimpleNamespace(model=nn.ModuleDict()))
