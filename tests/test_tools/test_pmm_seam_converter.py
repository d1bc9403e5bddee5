"""The converter of PMM's networks of maps, from an official file to equal outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmengine.runner.checkpoint import load_checkpoint
from torch import Tensor, nn

from mmwsss.models.utils.pmm_seam_weights import convert_pmm_seam
from mmwsss.registry import MODELS

# Rows of branches and sides as in a whole ScaleNet, but of two channels.
ROWS = [[2, 2, 2, 0, 8], [2, 2, 0, 2, 4], [2, 2, 2, 2, 2], [0, 2, 2, 2, 1]]
WIDTHS = dict(ResNet38d=(512, 1024, 4096), ScaleNet=(512, 1024, 2048))


def network(kind: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    backbone = dict(type='ResNet38d') if kind == 'ResNet38d' else dict(type=kind, structure=ROWS, depths=(1, 1, 1, 1))
    with torch.device('meta' if kind == 'ResNet38d' else 'cpu'):
        model = MODELS.build(
            dict(
                type='SEAM',
                backbone=backbone,
                head=dict(type='SEAMHead', in_channels=WIDTHS[kind], num_classes=4, tap_channels=(4, 4), channels=8),
                loss_cls=dict(type='MultiLabelSoftMarginLoss'),
            )
        )
    return model.eval()


def official_state(model: nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix('backbone.').removeprefix('head.'): value for name, value in model.state_dict().items()}


@pytest.fixture
def convert(load_tool: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    tool = load_tool('model_converters/pmm_seam_to_mmwsss')

    def run(*args: object) -> int:
        monkeypatch.setattr('sys.argv', ['converter', *map(str, args)])
        return tool.main()

    return run


@pytest.mark.parametrize('wrapped', [False, True])
def test_outputs_of_networks_of_maps_are_equal(convert: Callable[..., int], tmp_path: Path, wrapped: bool) -> None:
    source, target = tmp_path / 'maps.pth', tmp_path / 'new' / 'seam.pth'
    trained, model = network('ScaleNet', 0), network('ScaleNet', 1)
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
    assert [file.name for file in target.parent.iterdir()] == ['seam.pth']


def test_every_weight_of_the_wide_network_has_a_place() -> None:
    model = network('ResNet38d', 0)
    assert convert_pmm_seam(official_state(model)).keys() == model.state_dict().keys()


class Call:
    """Prints when it is unpickled."""

    def __reduce__(self) -> tuple:
        return print, ('executed',)


def test_mistakes_with_networks_of_maps_are_one_line(
    convert: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    state = official_state(network('ScaleNet', 0))
    for name, content in (
        ('affinity', state | {'f8_5.weight': torch.zeros(1)}),
        ('headless', {name: value for name, value in state.items() if not name.startswith('fc8')}),
        ('head', {name: value for name, value in state.items() if name.startswith('f')}),
        ('hostile', dict(state=Call())),
        ('empty', {}),
    ):
        torch.save(content, tmp_path / f'{name}.pth')
    (tmp_path / 'damaged.pth').write_bytes(b'no torch file')
    for name, message in (
        ('none', 'no checkpoint at'),
        ('affinity', 'weights of unknown layers: f8_5.weight (1); is this a network of maps of PMM or SEAM?'),
        ('headless', 'no weights of fc8 among the'),
        ('head', 'no weights of backbone among the 4 given'),
        ('hostile', 'hostile.pth holds print; expected'),
        ('empty', 'empty.pth is no state dict'),
        ('damaged', 'damaged.pth cannot be read'),
    ):
        assert convert(tmp_path / f'{name}.pth', tmp_path / 'out' / 'seam.pth') == 2
        out, err = capsys.readouterr()
        assert out == ''
        assert err.startswith('error: ')
        assert message in err
        assert err.count('\n') == 1
    assert not (tmp_path / 'out').exists()
