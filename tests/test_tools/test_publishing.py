"""Files of weights for others: converted, published, exported and imported networks compute the same."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.models.backbones import VisionTransformer
from torch import Tensor, nn

from mmwsss.apis import launch
from mmwsss.apis.publishing import read_weights
from mmwsss.apis.testing import load_weights, noted_stream
from mmwsss.models.utils import vit_weights
from mmwsss.registry import MODELS

safetensors = pytest.importorskip('safetensors.torch')

ARCH = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)
TIMM = (
    ('patch_embed.projection.', 'patch_embed.proj.'), ('layers.', 'blocks.'),
    ('.ln1.', '.norm1.'), ('.ln2.', '.norm2.'), ('ln1.', 'norm.'),
    ('.ffn.blocks.0.0.', '.mlp.fc1.'), ('.ffn.blocks.1.', '.mlp.fc2.'),
)  # fmt: skip


def backbone(checkpoint: Path | None = None) -> nn.Module:
    init_cfg = None if checkpoint is None else dict(type='Pretrained', checkpoint=str(checkpoint))
    model = MODELS.build(dict(type='TokenViT', arch=ARCH, img_size=16, patch_size=4, init_cfg=init_cfg))
    model.init_weights()
    return model.eval()


def timm_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {'head.weight': torch.zeros(5, 8), 'head.bias': torch.zeros(5)}
    for name, value in state.items():
        for ours, theirs in TIMM:
            name = name.replace(ours, theirs)
        renamed[name] = value
    return renamed


def flax_names(state: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """The layout of the original release, attention kernels split by heads."""
    arrays = {name: value.numpy() for name, value in state.items()}
    width, heads = ARCH['embed_dims'], ARCH['num_heads']
    tree = {
        'cls': arrays['cls_token'],
        'embedding/kernel': arrays['patch_embed.projection.weight'].transpose(2, 3, 1, 0),
        'embedding/bias': arrays['patch_embed.projection.bias'],
        'Transformer/posembed_input/pos_embedding': arrays['pos_embed'],
        'Transformer/encoder_norm/scale': arrays['ln1.weight'],
        'Transformer/encoder_norm/bias': arrays['ln1.bias'],
    }
    for i in range(ARCH['num_layers']):
        block, ours = f'Transformer/encoderblock_{i}', f'layers.{i}'
        for theirs, norm in (('LayerNorm_0', 'ln1'), ('LayerNorm_2', 'ln2')):
            tree[f'{block}/{theirs}/scale'] = arrays[f'{ours}.{norm}.weight']
            tree[f'{block}/{theirs}/bias'] = arrays[f'{ours}.{norm}.bias']
        attention = f'{block}/MultiHeadDotProductAttention_1'
        kernels = arrays[f'{ours}.attn.qkv.weight'].reshape(3, width, width)
        biases = arrays[f'{ours}.attn.qkv.bias'].reshape(3, heads, -1)
        for name, kernel, bias in zip(('query', 'key', 'value'), kernels, biases):
            tree[f'{attention}/{name}/kernel'] = kernel.T.reshape(width, heads, -1)
            tree[f'{attention}/{name}/bias'] = bias
        tree[f'{attention}/out/kernel'] = arrays[f'{ours}.attn.proj.weight'].T.reshape(heads, -1, width)
        tree[f'{attention}/out/bias'] = arrays[f'{ours}.attn.proj.bias']
        for dense, name in (('Dense_0', 'layers.0.0'), ('Dense_1', 'layers.1')):
            tree[f'{block}/MlpBlock_3/{dense}/kernel'] = arrays[f'{ours}.ffn.{name}.weight'].T
            tree[f'{block}/MlpBlock_3/{dense}/bias'] = arrays[f'{ours}.ffn.{name}.bias']
    return tree


def write_source(path: Path, state: dict[str, Tensor]) -> None:
    if path.suffix == '.npz':
        np.savez(path, **flax_names(state))
    elif path.suffix == '.safetensors':
        safetensors.save_file({name: value.contiguous() for name, value in timm_names(state).items()}, path)
    else:
        torch.save(dict(model=timm_names(state)), path)


@pytest.mark.parametrize('name', ['deit.pth', 'timm.safetensors', 'augreg.npz'])
def test_converted_vits_compute_the_same(load_converter, tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    original = backbone()
    for parameter in original.parameters():
        nn.init.normal_(parameter, std=0.3)
    write_source(tmp_path / name, original.state_dict())
    assert load_converter('vit_to_mmwsss')(tmp_path / name, tmp_path / 'ours.pth') == 0
    image = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = original(image)[0]
        for path in (tmp_path / name, tmp_path / 'ours.pth'):
            torch.testing.assert_close(backbone(path)(image)[0], expected, rtol=0, atol=0)
    parent = VisionTransformer(arch=ARCH, img_size=16, patch_size=4)
    parent.load_state_dict(torch.load(tmp_path / 'ours.pth', weights_only=True)['state_dict'])


@pytest.mark.parametrize('name', ['broken.pth', 'broken.safetensors', 'broken.npz', 'gone.pth', 'other.pth'])
def test_files_that_are_no_vit(load_converter, tmp_path: Path, capsys: pytest.CaptureFixture, name: str) -> None:
    if name.startswith('broken'):
        (tmp_path / name).write_bytes(b'PK\x03\x04 and no more')
    elif name.startswith('other'):
        torch.save({'conv1.weight': torch.zeros(1)}, tmp_path / name)
    assert load_converter('vit_to_mmwsss')(tmp_path / name, tmp_path / 'ours.pth') == 2
    out, err = capsys.readouterr()
    assert out == ''
    assert re.fullmatch(rf'error: .*{name}.*\n', err)
    assert not (tmp_path / 'ours.pth').exists()


def test_what_a_classifier_has_is_named(load_converter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    monkeypatch.setattr(vit_weights, 'print_log', lambda text, logger: said.append(text))
    state = flax_names(backbone().state_dict()) | {'head/kernel': np.zeros((8, 2)), 'head/bias': np.zeros(2)}
    np.savez(tmp_path / 'vit.npz', **state)
    assert load_converter('vit_to_mmwsss')(tmp_path / 'vit.npz', tmp_path / 'ours.pth') == 0
    assert said == [f'{tmp_path / "vit.npz"}: left out, as a classifier has them: head/kernel, head/bias']


def test_a_hybrid_is_refused(load_converter, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    state = flax_names(backbone().state_dict()) | {'conv_root/kernel': np.zeros((7, 7, 3, 4))}
    np.savez(tmp_path / 'hybrid.npz', **state)
    assert load_converter('vit_to_mmwsss')(tmp_path / 'hybrid.npz', tmp_path / 'ours.pth') == 2
    assert 'parts of something else, such as conv_root/kernel (1)' in capsys.readouterr().err


class Tied(nn.Module):
    """Weights of several kinds; two names share one tensor, one is a slice of a larger one."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.first = nn.Linear(4, 4, dtype=torch.bfloat16)
        self.second = nn.Linear(4, 4, bias=False, dtype=torch.bfloat16)
        self.second.weight = self.first.weight
        self.register_buffer('part', torch.arange(40.0).view(2, 20)[:, :3])

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(self.norm(x).bfloat16())) + self.part.sum()


@pytest.fixture
def run(load_tool, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def call(name: str, *args: object) -> None:
        monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
        load_tool(name).main()

    return call


META = dict(seed=3, iter=20, cfg="model = dict(type='Ä')", dataset_meta=dict(classes=('background', 'cat')))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = Tied()
    hub = dict(runtime_info={'best_stream': 'online', 'best_stream/seg_mIoU': 'online', 'iter': 20}, log_scalars={})
    content = dict(
        state_dict=model.state_dict(),
        meta=META,
        message_hub=hub,
        optimizer=dict(state={0: torch.zeros(50)}, param_groups=[]),
        param_schedulers=[],
    )
    path = tmp_path / 'work' / 'iter_20.pth'
    path.parent.mkdir()
    torch.save(content, path)
    path.with_name('last_checkpoint').write_text(str(path))
    return path


def loaded(path: Path) -> nn.Module:
    model = Tied()
    load_weights(model, read_weights(str(path)), str(path))
    return model.eval()


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_published_files(run, checkpoint: Path, tmp_path: Path, suffix: str) -> None:
    for source in (checkpoint, checkpoint.parent):
        run('misc/publish_model', source, tmp_path / 'zoo' / f'tied{suffix}')
    (path,) = (tmp_path / 'zoo').iterdir()
    assert path.name == f'tied-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}{suffix}'
    content = read_weights(str(path))
    assert content.keys() == {'state_dict', 'meta', 'message_hub'}
    assert noted_stream(content, str(path)) == 'online'
    assert content['message_hub']['runtime_info'].keys() == {'best_stream', 'best_stream/seg_mIoU'}
    assert {**content['meta'], 'dataset_meta': None} == {**META, 'dataset_meta': None}
    assert list(content['meta']['dataset_meta']['classes']) == ['background', 'cat']
    x = torch.randn(3, 4)
    assert torch.equal(loaded(path)(x), loaded(checkpoint)(x))
    if suffix == '.pth':
        assert torch.load(path, weights_only=True).keys() == content.keys(), 'what mmengine reads'


def test_there_and_back(run, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run('model_converters/safetensors_io', checkpoint, tmp_path / 'out' / 'a.safetensors')
    run('model_converters/safetensors_io', tmp_path / 'out' / 'a.safetensors', tmp_path / 'out' / 'b.pth')
    assert '9 tensors written to' in capsys.readouterr().out
    before, after = (torch.load(path, weights_only=True) for path in (checkpoint, tmp_path / 'out' / 'b.pth'))
    assert before['state_dict'].keys() == after['state_dict'].keys()
    assert all(
        torch.equal(value, after['state_dict'][name]) and value.dtype == after['state_dict'][name].dtype
        for name, value in before['state_dict'].items()
    )
    assert 'optimizer' not in after


def test_safetensors_of_others(run, tmp_path: Path) -> None:
    safetensors.save_file({'fc.weight': torch.eye(2)}, tmp_path / 'other.safetensors')
    run('model_converters/safetensors_io', tmp_path / 'other.safetensors', tmp_path / 'other.pth')
    content = torch.load(tmp_path / 'other.pth', weights_only=True)
    assert content['meta'] == dict(source='other.safetensors')
    assert torch.equal(content['state_dict']['fc.weight'], torch.eye(2))


def test_a_strange_entry_of_safetensors_is_named(tmp_path: Path) -> None:
    safetensors.save_file({'fc.weight': torch.eye(2)}, tmp_path / 'other.safetensors', {'mmwsss': 'no JSON'})
    with pytest.raises(launch.UsageError, match=r'other\.safetensors: its entry "mmwsss" is not what'):
        read_weights(str(tmp_path / 'other.safetensors'))


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite_are_refused(run, checkpoint: Path, tmp_path: Path, value: float) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content['state_dict']['norm.bias'][2] = value
    torch.save(content, checkpoint)
    with pytest.raises(launch.UsageError, match=r'iter_20\.pth: weights that are not finite: norm\.bias \(1\)'):
        run('misc/publish_model', checkpoint, tmp_path / 'zoo' / 'a.pth')
    assert not (tmp_path / 'zoo').exists()


@pytest.mark.parametrize(
    ('tool', 'source', 'target', 'message'),
    [
        ('misc/publish_model', 'work/iter_20.pth', 'a.bin', r'end in \.pth or \.safetensors, got "\.bin"'),
        ('misc/publish_model', 'gone.pth', 'a.pth', r'gone\.pth does not exist'),
        ('misc/publish_model', 'list.pth', 'a.pth', r'list\.pth is no checkpoint'),
        ('model_converters/safetensors_io', 'work/iter_20.pth', 'a.pth', r'has to end in \.safetensors'),
        ('model_converters/safetensors_io', 'gone.safetensors', 'a.pth', r'gone\.safetensors does not exist'),
        ('model_converters/safetensors_io', 'cut.safetensors', 'a.pth', r'cut\.safetensors cannot be read'),
    ],
)
def test_mistakes(run, checkpoint: Path, tmp_path: Path, tool: str, source: str, target: str, message: str) -> None:
    torch.save(dict(state_dict=['a']), tmp_path / 'list.pth')
    (tmp_path / 'cut.safetensors').write_bytes(b'12345')
    with pytest.raises(launch.UsageError, match=message):
        run(tool, tmp_path / source, tmp_path / target)
    assert not (tmp_path / target).exists()
