"""Frozen parts of a model are left out of the optimizer in silence."""

from __future__ import annotations

import copy
import logging

import pytest
from cosa_cases import CONFIGS, OPTIMIZER, build_cosa
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.optim.optimizer import default_constructor
from torch import nn

from mmwsss.engine import optim_constructors

OURS = 'FrozenPartsOptimWrapperConstructor'


@pytest.fixture
def lines(monkeypatch) -> list[tuple[int, str]]:
    """Level and text of what both constructors log."""
    found = []

    def note(text, logger=None, level=logging.INFO) -> None:
        found.append((level, text))

    for module in (default_constructor, optim_constructors):
        monkeypatch.setattr(module, 'print_log', note)
    return found


def groups_of(model: nn.Module, constructor: str, **paramwise: dict) -> list[dict]:
    config = copy.deepcopy(OPTIMIZER) | dict(constructor=constructor)
    config['paramwise_cfg'].update(paramwise)
    groups = build_optim_wrapper(model, config).optimizer.param_groups
    return [{**group, 'params': [id(weight) for weight in group['params']]} for group in groups]


@pytest.mark.parametrize('paramwise', [{}, dict(norm_decay_mult=0.0, bias_lr_mult=2.0)], ids=['heads', 'rules'])
def test_groups_are_those_of_the_default(lines, paramwise: dict) -> None:
    model = build_cosa()
    expected = groups_of(model, 'DefaultOptimWrapperConstructor', **paramwise)
    frozen = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    assert len([level for level, _ in lines if level == logging.WARNING]) == len(frozen) > 20
    lines.clear()
    assert groups_of(model, OURS, **paramwise) == expected
    assert len({group['lr'] for group in expected}) > 1
    count = len(list(model.assignment.parameters()))
    assert [text for _, text in lines if 'frozen' in text] == [
        f'assignment: frozen, {count} parameters are not optimized'
    ]
    warned = [text for level, text in lines if level == logging.WARNING]
    assert len(warned) == len(frozen) - count, 'single frozen parameters of trained parts'


def test_the_schedule_of_cosa_uses_it() -> None:
    cfg = Config.fromfile(CONFIGS / '_base_' / 'schedules' / 'cosa_32k.py')
    model = build_cosa()
    wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
    assert cfg.optim_wrapper.constructor == OURS
    trained = {id(weight) for group in wrapper.optimizer.param_groups for weight in group['params']}
    assert trained == {id(weight) for weight in model.parameters() if weight.requires_grad}
