"""Released checkpoints of CoSA: names, streams, and files that are not trusted."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmwsss.models.segmentors import CoSANetwork
from mmwsss.models.utils.cosa_weights import convert_cosa, read_cosa_checkpoint, with_streams

WIDTH, DEPTH, CLASSES = 8, 2, 4


def encoder() -> dict[str, Tensor]:
    shapes = {'cls_token': (1, 1, WIDTH), 'pos_embed': (1, 5, WIDTH), 'patch_embed.proj.weight': (WIDTH, 3, 4, 4)}
    shapes.update({'patch_embed.proj.bias': (WIDTH,), 'norm.weight': (WIDTH,), 'norm.bias': (WIDTH,)})
    shapes.update({'head.weight': (10, WIDTH), 'head.bias': (10,)})
    shapes.update({f'blocks.{i}.{name}': shape for i in range(DEPTH) for name, shape in block().items()})
    return {f'encoder.{name}': torch.randn(shape) for name, shape in shapes.items()}


def block() -> dict[str, tuple[int, ...]]:
    layers = {'attn.qkv': (3 * WIDTH, WIDTH), 'attn.proj': (WIDTH, WIDTH)}
    layers.update({'mlp.fc1': (4 * WIDTH, WIDTH), 'mlp.fc2': (WIDTH, 4 * WIDTH)})
    shapes = {f'norm{i}.{leaf}': (WIDTH,) for i in (1, 2) for leaf in ('weight', 'bias')}
    for name, shape in layers.items():
        shapes.update({f'{name}.weight': shape, f'{name}.bias': shape[:1]})
    return shapes


def large_fov() -> dict[str, Tensor]:
    shapes = {'conv6': (6, WIDTH, 3, 3), 'conv7': (6, 6, 3, 3), 'conv8': (CLASSES, 6, 1, 1)}
    return {f'decoder.{name}.weight': torch.randn(shape) for name, shape in shapes.items()}


def mask_transformer() -> dict[str, Tensor]:
    shapes = {'cls_emb': (1, CLASSES, WIDTH), 'proj_patch': (WIDTH, WIDTH), 'proj_classes': (WIDTH, WIDTH)}
    shapes.update({'proj_dec.weight': (WIDTH, WIDTH), 'proj_dec.bias': (WIDTH,)})
    for norm, size in (('decoder_norm', WIDTH), ('mask_norm', CLASSES)):
        shapes.update({f'{norm}.weight': (size,), f'{norm}.bias': (size,)})
    shapes.update({f'blocks.{i}.{name}': shape for i in range(2) for name, shape in block().items()})
    return {f'decoder.{name}': torch.randn(shape) for name, shape in shapes.items()}


def official(decoder: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """An official state dict of a small network."""
    heads = {f'{name}.weight': torch.randn(CLASSES - 1, WIDTH, 1, 1) for name in ('classifier', 'aux_classifier')}
    return {**encoder(), **(decoder or large_fov()), **heads}


def network(decode_head: dict | None = None) -> CoSANetwork:
    arch = dict(embed_dims=WIDTH, num_layers=DEPTH, num_heads=2, feedforward_channels=4 * WIDTH)
    sizes = dict(in_channels=WIDTH, num_classes=CLASSES)
    decode_head = decode_head or dict(type='LargeFOVHead', channels=6)
    parts = dict(
        backbone=dict(type='TokenViT', arch=arch, img_size=8, patch_size=4),
        head=dict(type='CAMHead', **sizes),
        aux_head=dict(type='CAMHead', **sizes),
        decode_head=dict(**decode_head, **sizes),
    )
    return CoSANetwork(**parts)


def test_every_weight_finds_its_place() -> None:
    state = official()
    converted = convert_cosa(state)
    network().load_state_dict(converted)
    assert len(converted) == len(state) - 2
    for ours, theirs in (
        ('backbone.patch_embed.projection.weight', 'encoder.patch_embed.proj.weight'),
        ('backbone.ln1.bias', 'encoder.norm.bias'),
        ('backbone.layers.1.ln2.weight', 'encoder.blocks.1.norm2.weight'),
        ('backbone.layers.0.attn.qkv.weight', 'encoder.blocks.0.attn.qkv.weight'),
        ('backbone.layers.1.ffn.layers.0.0.bias', 'encoder.blocks.1.mlp.fc1.bias'),
        ('head.classifier.weight', 'classifier.weight'),
        ('aux_head.classifier.weight', 'aux_classifier.weight'),
        ('decode_head.conv7.weight', 'decoder.conv7.weight'),
        ('decode_head.conv_seg.weight', 'decoder.conv8.weight'),
    ):
        assert torch.equal(converted[ours], state[theirs]), ours


def test_mask_transformer() -> None:
    state = official(mask_transformer())
    converted = convert_cosa(state)
    head = dict(type='SegmenterMaskTransformerHead', channels=8, embed_dims=WIDTH, num_layers=2, num_heads=1)
    network(head).load_state_dict(converted)
    assert len(converted) == len(state) - 2
    tokens = torch.randn(3, WIDTH)
    projected = nn.functional.linear(tokens, converted['decode_head.patch_proj.weight'])
    torch.testing.assert_close(projected, tokens @ state['decoder.proj_patch'])


def test_result_is_single_precision() -> None:
    converted = convert_cosa({name: value.half() for name, value in official().items()})
    assert {value.dtype for value in converted.values()} == {torch.float32}


def test_streams() -> None:
    state = {'head.classifier.weight': torch.zeros(1), 'backbone.cls_token': torch.ones(1)}
    both = with_streams(state)
    assert list(with_streams(state, 'online')) == [f'online.{name}' for name in state]
    assert list(with_streams(state, 'assignment')) == [f'assignment.{name}' for name in state]
    assert both.keys() == {*with_streams(state, 'online'), *with_streams(state, 'assignment')}
    nn.ModuleDict(dict(online=network(), assignment=network())).load_state_dict(with_streams(convert_cosa(official())))
    with pytest.raises(ValueError, match=r"stream has to be one of .*'assignment'\), got 'teacher'"):
        with_streams(state, 'teacher')


@pytest.mark.parametrize('name', ['encoder.blocks.0.attn.relative', 'neck.weight', 'decoder.conv9.weight', 'encoder.x'])
def test_unknown_layer(name: str) -> None:
    with pytest.raises(ValueError, match=rf'unknown layers: {name} \(1\); is this a network of CoSA'):
        convert_cosa({**official(), name: torch.zeros(1)})


@pytest.mark.parametrize('part', ['encoder', 'classifier', 'aux_classifier', 'decoder'])
def test_missing_part(part: str) -> None:
    state = {name: value for name, value in official().items() if not name.startswith(f'{part}.')}
    with pytest.raises(ValueError, match=rf'no weights of {part} among the {len(state)} given'):
        convert_cosa(state)


def checkpoint(**changes) -> dict:
    """What the official training saves."""
    args = Namespace(work_dir=Path('runs/voc'), lr=6e-5, scales=(1.0, 0.5), seed=0, name=None)
    return dict(model=official(), s_or_t='t', epoch=24000, args=args, result=[np.float64(73.7), 75.7], **changes)


def test_reading_keeps_tensors_stream_and_iteration(tmp_path: Path) -> None:
    saved = checkpoint()
    torch.save(saved, tmp_path / 'voc.pth')
    state, details = read_cosa_checkpoint(tmp_path / 'voc.pth')
    assert state.keys() == saved['model'].keys()
    assert all(torch.equal(value, saved['model'][name]) for name, value in state.items())
    assert details == dict(s_or_t='t', epoch=24000)
    torch.save(dict(model=saved['model'], epoch=[1]), tmp_path / 'bare.pth')
    assert read_cosa_checkpoint(tmp_path / 'bare.pth')[1] == {}
    assert not {Namespace, 'pathlib.PosixPath'} & set(torch.serialization.get_safe_globals())


@pytest.mark.parametrize('path_class', [b'pathlib._local\nPosixPath', b'pathlib\nWindowsPath'])
def test_paths_of_other_systems(tmp_path: Path, path_class: bytes) -> None:
    file = tmp_path / 'voc.pth'
    torch.save(checkpoint(), file, _use_new_zipfile_serialization=False)
    content = file.read_bytes()
    assert b'pathlib\nPosixPath' in content
    file.write_bytes(content.replace(b'pathlib\nPosixPath', path_class))
    assert read_cosa_checkpoint(file)[1]['epoch'] == 24000


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


@pytest.mark.parametrize('place', ['args', 'extra', 'model'])
def test_a_hostile_file_is_refused(tmp_path: Path, place: str) -> None:
    trace = tmp_path / 'trace'
    command = Command(f'touch {trace}')
    saved = checkpoint()
    saved[place] = dict(args=Namespace(hook=command), extra=command, model={'encoder.cls_token': command})[place]
    torch.save(saved, tmp_path / 'voc.pth')
    with pytest.raises(ValueError, match=r'voc\.pth holds posix\.system; expected a torch file of tensors'):
        read_cosa_checkpoint(tmp_path / 'voc.pth')
    assert not trace.exists()


@pytest.mark.parametrize(
    'content', [[1, 2], {}, dict(model={}), dict(model=3), dict(model={'encoder.cls_token': 1}), dict(state_dict={})]
)
def test_a_file_without_a_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r"other\.pth has no state dict under 'model'"):
        read_cosa_checkpoint(tmp_path / 'other.pth')


def test_no_torch_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'no checkpoint at .*none\.pth'):
        read_cosa_checkpoint(tmp_path / 'none.pth')
    for name, content in (('text.pth', b'<html>not found</html>'), ('empty.pth', b''), ('zip.pth', b'PK\x03\x04rest')):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf'{name} cannot be read \(\w+\); expected a torch file') as caught:
            read_cosa_checkpoint(tmp_path / name)
        assert '\n' not in str(caught.value)


def test_old_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(checkpoint(), tmp_path / 'voc.pth')
    monkeypatch.delattr('torch.serialization.get_unsafe_globals_in_checkpoint')
    with pytest.raises(RuntimeError, match=r'voc\.pth safely needs torch 2\.6 or newer'):
        read_cosa_checkpoint(tmp_path / 'voc.pth')
