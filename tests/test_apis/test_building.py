"""Mistakes in a config end a tool with one line."""

from __future__ import annotations

import sys

import pytest
from mmengine.registry import init_default_scope

from mmwsss.apis.building import config_mistake
from mmwsss.apis.ending import run_cli
from mmwsss.datasets import transforms  # noqa: F401  (registers them)
from mmwsss.models import heads  # noqa: F401
from mmwsss.models.poolings import TopKPooling
from mmwsss.registry import MODELS, POOLINGS, TRANSFORMS


def build(registry, cfg):
    init_default_scope('mmwsss')
    registry.build(cfg)


HEAD = dict(type='PatchClassHead', num_classes=7, in_channels=8)


@pytest.mark.parametrize(
    ('registry', 'cfg', 'line'),
    [
        (MODELS, HEAD | dict(num_clases=3), 'PatchClassHead has no setting num_clases; nearest: num_classes'),
        (MODELS, HEAD | dict(loss=3), 'PatchClassHead has no setting loss'),
        (MODELS, dict(type='PatchClassHead', in_channels=8), "PatchClassHead lacks the setting 'num_classes'"),
        (MODELS, HEAD | dict(pooling=dict(type='TopKPooling', k=0)), 'TopKPooling needs k >= 1, got 0'),
        (
            MODELS,
            HEAD | dict(pooling=dict(type='TopKPoling')),
            'type TopKPoling is not in the registry of poolings; nearest: TopKPooling',
        ),
        (MODELS, HEAD | dict(pooling=dict(k=2)), 'one of the poolings has no type, only k; set type'),
        (TRANSFORMS, dict(type='Resiz'), 'type Resiz is not in the registry of transforms; nearest: Resize'),
        (POOLINGS, dict(type='AdaptiveKPooling', tau=2), 'AdaptiveKPooling.tau has to lie between 0 and 1, got 2'),
    ],
)
def test_one_line(registry, cfg, line, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        run_cli(lambda: build(registry, cfg))
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f'error: {line}')


def test_errors_of_programs_keep_their_traceback() -> None:
    def broken(size: int) -> None:
        raise TypeError("broken() got an unexpected keyword argument 'a'")

    @POOLINGS.register_module(force=True)
    class BrokenForTest:
        def __init__(self, size: int) -> None:
            broken(size)

    for call in (lambda: build(POOLINGS, dict(type='BrokenForTest', size=1)), lambda: broken(a=1), lambda: {}['a']):
        with pytest.raises((TypeError, KeyError)) as caught:
            run_cli(call)
        assert config_mistake(caught.value) is None
    POOLINGS.module_dict.pop('BrokenForTest')


class Part:
    def __init__(self, size: int) -> None:
        self.size = size


class Slipping:
    """Makes a mistake of its own while it is built, as one of the package."""

    def __init__(self, slip: str) -> None:
        if slip == 'unknown setting':
            Part(size=1, sise=2)
        elif slip == 'lacking setting':
            Part()
        elif slip == 'unpacking':
            TopKPooling(slip)
        raise KeyError(slip)


@pytest.mark.parametrize('slip', ['unknown setting', 'lacking setting', 'unpacking', 'key'])
def test_mistakes_of_a_part_are_none_of_its_config(slip, monkeypatch) -> None:
    def unpack(self, k: int) -> None:
        _, _ = (k,)

    # As if it were written there.
    module = sys.modules[TopKPooling.__module__]
    unpack = type(unpack)(unpack.__code__.replace(co_filename=module.__file__), vars(module))
    monkeypatch.setattr(TopKPooling, '__init__', unpack)
    with pytest.raises((TypeError, ValueError, KeyError)) as caught:
        build(POOLINGS, dict(type=Slipping, slip=slip))
    assert config_mistake(caught.value) is None
