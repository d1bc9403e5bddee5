"""The converter of released CoSA checkpoints, from an official file to a loaded model."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.runner.checkpoint import load_checkpoint
from torch import Tensor, nn

from mmwsss.models.segmentors import CoSANetwork

ARCH = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)


def network() -> CoSANetwork:
    sizes = dict(in_channels=8, num_classes=4)
    parts = dict(
        backbone=dict(type='TokenViT', arch=ARCH, img_size=8, patch_size=4),
        head=dict(type='CAMHead', **sizes),
        aux_head=dict(type='CAMHead', **sizes),
        decode_head=dict(type='LargeFOVHead', channels=6, **sizes),
    )
    return CoSANetwork(**parts)


def official_state() -> dict[str, Tensor]:
    """Weights of :func:`network` under the official names."""
    state = {'encoder.head.weight': torch.zeros(5, 8), 'encoder.head.bias': torch.zeros(5)}
    for name, value in network().state_dict().items():
        for ours, theirs in (
            ('backbone.ln1.', 'encoder.norm.'), ('backbone.layers.', 'encoder.blocks.'), ('backbone.', 'encoder.'),
            ('.projection.', '.proj.'), ('.ffn.layers.0.0.', '.mlp.fc1.'), ('.ffn.layers.1.', '.mlp.fc2.'),
            ('.ln1.', '.norm1.'), ('.ln2.', '.norm2.'), ('decode_head.', 'decoder.'), ('conv_seg', 'conv8'),
            ('aux_head.', 'aux_'), ('head.classifier', 'classifier'),
        ):  # fmt: skip
            name = name.replace(ours, theirs)
        state[name] = torch.randn_like(value)
    return state


@pytest.fixture
def convert(load_converter: Callable[[str], Callable[..., int]]) -> Callable[..., int]:
    return load_converter('cosa_to_mmwsss')


@pytest.fixture
def released(tmp_path: Path) -> Path:
    args = Namespace(work_dir=tmp_path / 'runs', lr=6e-5)
    torch.save(dict(model=official_state(), s_or_t='s', epoch=30000, args=args, result={}), tmp_path / 'voc.pth')
    return tmp_path / 'voc.pth'


def test_both_streams_load_strictly(convert: Callable[..., int], released: Path, tmp_path: Path) -> None:
    target = tmp_path / 'new' / 'cosa.pth'
    assert convert(released, target) == 0
    model = nn.ModuleDict(dict(online=network(), assignment=network()))
    load_checkpoint(model, str(target), strict=True)
    official = torch.load(released, weights_only=False)['model']
    for stream in model.values():
        assert torch.equal(stream.backbone.ln1.weight, official['encoder.norm.weight'])
        assert torch.equal(stream.decode_head.conv_seg.weight, official['decoder.conv8.weight'])
    written = torch.load(target, weights_only=True)
    assert written['meta'] == dict(source='voc.pth', s_or_t='s', epoch=30000)
    assert [file.name for file in target.parent.iterdir()] == ['cosa.pth']


@pytest.mark.parametrize('stream', ['online', 'assignment'])
def test_one_stream(convert: Callable[..., int], released: Path, tmp_path: Path, stream: str) -> None:
    assert convert(released, tmp_path / 'cosa.pth', '--stream', stream) == 0
    state = torch.load(tmp_path / 'cosa.pth', weights_only=True)['state_dict']
    assert {name.split('.')[0] for name in state} == {stream}
    network().load_state_dict({name.removeprefix(f'{stream}.'): value for name, value in state.items()})


class Call:
    """Prints when it is unpickled."""

    def __reduce__(self) -> tuple:
        return print, ('executed',)


def test_mistakes_are_one_line(convert: Callable[..., int], check_refusal: Callable[..., None], tmp_path: Path) -> None:
    foreign = tmp_path / 'foreign.pth'
    torch.save(dict(model={'backbone.conv1.weight': torch.zeros(1)}), foreign)
    hostile = tmp_path / 'hostile.pth'
    torch.save(dict(model=official_state(), args=Namespace(call=Call())), hostile)
    for source, message in (
        (tmp_path / 'none.pth', 'no checkpoint at'),
        (foreign, 'weights of unknown layers: backbone.conv1.weight (1)'),
        (hostile, 'hostile.pth holds print; expected'),
    ):
        check_refusal(convert, source, message)
