"""The converters of PMM's affinity networks and networks of maps, from an official file to equal outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from mmengine.runner.checkpoint import load_checkpoint
from torch import Tensor, nn

from mmwsss.models.utils.pmm_affinity_weights import convert_pmm_affinity
from mmwsss.models.utils.pmm_seam_weights import convert_pmm_seam
from mmwsss.registry import MODELS

# Rows of branches and sides as in a whole ScaleNet, but of two channels.
ROWS = [[2, 2, 2, 0, 8], [2, 2, 0, 2, 4], [2, 2, 2, 2, 2], [0, 2, 2, 2, 1]]
WIDTHS = dict(ResNet38d=(512, 1024, 4096), ScaleNet=(512, 1024, 2048))


class Case(NamedTuple):
    """A network, its converter, its last layer, and a layer only the other network has."""

    tool: str
    convert_weights: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    settings: dict[str, Any]
    head: dict[str, Any]
    last: str
    foreign: str
    question: str


CASES = dict(
    affinity=Case(
        tool='pmm_affinity_to_mmwsss',
        convert_weights=convert_pmm_affinity,
        settings=dict(type='AffinityNetwork', loss_affinity=dict(type='AffinityLoss')),
        head=dict(type='AffinityHead', tap_channels=(4, 4, 4)),
        last='f8_5',
        foreign='fc8',
        question='is this an affinity network of PMM?',
    ),
    maps=Case(
        tool='pmm_seam_to_mmwsss',
        convert_weights=convert_pmm_seam,
        settings=dict(type='SEAM', loss_cls=dict(type='MultiLabelSoftMarginLoss')),
        head=dict(type='SEAMHead', num_classes=4, tap_channels=(4, 4), channels=8),
        last='fc8',
        foreign='f8_5',
        question='is this a network of maps of PMM or SEAM?',
    ),
)


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def convert(case: Case, load_converter: Callable[[str], Callable[..., int]]) -> Callable[..., int]:
    return load_converter(case.tool)


def network(case: Case, kind: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    backbone = dict(type='ResNet38d') if kind == 'ResNet38d' else dict(type=kind, structure=ROWS, depths=(1, 1, 1, 1))
    with torch.device('meta' if kind == 'ResNet38d' else 'cpu'):
        model = MODELS.build(dict(case.settings, backbone=backbone, head=dict(case.head, in_channels=WIDTHS[kind])))
    return model.eval()


def official_state(model: nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix('backbone.').removeprefix('head.'): value for name, value in model.state_dict().items()}


@pytest.mark.parametrize('wrapped', [False, True])
def test_outputs_of_official_networks_are_equal(
    case: Case, convert: Callable[..., int], tmp_path: Path, wrapped: bool
) -> None:
    source, target = tmp_path / 'official.pth', tmp_path / 'new' / 'converted.pth'
    trained, model = network(case, 'ScaleNet', 0), network(case, 'ScaleNet', 1)
    state = official_state(trained)
    if wrapped:
        state = dict(model=dict(main={f'module.{name}': value for name, value in state.items()}))
    torch.save(state, source)
    assert convert(source, target) == 0
    images = torch.randn(1, 3, 64, 64)
    assert not torch.equal(model(images), trained(images))
    load_checkpoint(model, str(target), strict=True)
    assert torch.equal(model(images), trained(images))
    assert torch.load(target, weights_only=True)['state_dict'].keys() == trained.state_dict().keys()
    assert [file.name for file in target.parent.iterdir()] == ['converted.pth']


def test_every_weight_of_resnet38d_has_a_place(case: Case) -> None:
    model = network(case, 'ResNet38d', 0)
    assert case.convert_weights(official_state(model)).keys() == model.state_dict().keys()


class Call:
    """Prints when it is unpickled."""

    def __reduce__(self) -> tuple:
        return print, ('executed',)


def test_mistakes_with_official_networks_are_one_line(
    case: Case, convert: Callable[..., int], check_refusal: Callable[..., None], tmp_path: Path
) -> None:
    state = official_state(network(case, 'ScaleNet', 0))
    for name, content in (
        ('foreign', state | {f'{case.foreign}.weight': torch.zeros(1)}),
        ('headless', {name: value for name, value in state.items() if not name.startswith(case.last)}),
        ('head', {name: value for name, value in state.items() if name.startswith('f')}),
        ('hostile', dict(state=Call())),
        ('empty', {}),
    ):
        torch.save(content, tmp_path / f'{name}.pth')
    (tmp_path / 'damaged.pth').write_bytes(b'no torch file')
    for name, message in (
        ('none', 'no checkpoint at'),
        ('foreign', f'weights of unknown layers: {case.foreign}.weight (1); {case.question}'),
        ('headless', f'no weights of {case.last} among the'),
        ('head', 'no weights of backbone among the 4 given'),
        ('hostile', 'hostile.pth holds print; expected'),
        ('empty', 'empty.pth is no state dict'),
        ('damaged', 'damaged.pth cannot be read'),
    ):
        check_refusal(convert, tmp_path / f'{name}.pth', message)
