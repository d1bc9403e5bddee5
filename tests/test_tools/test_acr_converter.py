"""The converter of released ACR checkpoints, from an official file to equal outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.runner.checkpoint import load_checkpoint
from torch import Tensor

from mmwsss.models.segmentors import ACR
from mmwsss.models.utils.acr_weights import convert_acr
from mmwsss.registry import MODELS

STEMS = dict(
    plain=(4, 'linear'),
    hybrid=(8, dict(type='HybridStem', stem_channels=4, channels=(8, 16), depths=(2, 1), groups=2)),
)
OFFICIAL = (
    ('head.classifier.', 'cls_head.'),
    ('backbone.layers.', 'pretrained.model.blocks.'),
    ('backbone.', 'pretrained.model.'),
    ('patch_embed.pretrained.model.', 'patch_embed.backbone.'),
    ('.projection.', '.proj.'),
    ('.ffn.layers.0.0.', '.mlp.fc1.'),
    ('.ffn.layers.1.', '.mlp.fc2.'),
    ('.ln1.', '.norm1.'),
    ('.ln2.', '.norm2.'),
)
UNUSED = (
    'pretrained.model.bkg_token', 'pretrained.model.norm.weight', 'pretrained.model.norm.bias',
    'pretrained.model.head.weight', 'pretrained.model.head.bias', 'scratch.layer1_rn.weight',
    'pretrained.act_postprocess1.3.weight',
)  # fmt: skip


def network(kind: str, seed: int) -> ACR:
    patch, stem = STEMS[kind]
    torch.manual_seed(seed)
    arch = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)
    model = MODELS.build(
        dict(
            type='ACR',
            backbone=dict(
                type='TokenViT', arch=arch, img_size=4 * patch, patch_size=patch, stem=stem, pos_interp='bilinear',
                final_norm=False,
            ),
            head=dict(type='ClassTokenHead', in_channels=8, num_classes=4),
            loss_cls=dict(type='MultiLabelSoftMarginLoss'),
        )
    )  # fmt: skip
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return model.eval()


def official_state(model: ACR) -> dict[str, Tensor]:
    """Weights of ``model`` under the official names, with those that the official network carries along."""
    state = {name: torch.randn(3) for name in UNUSED}
    for name, value in model.state_dict().items():
        for ours, theirs in OFFICIAL:
            name = name.replace(ours, theirs)
        state[name] = value
    return state


@pytest.fixture
def convert(load_converter: Callable[[str], Callable[..., int]]) -> Callable[..., int]:
    return load_converter('acr_to_mmwsss')


@pytest.mark.parametrize('kind', STEMS)
def test_outputs_are_equal(convert: Callable[..., int], tmp_path: Path, kind: str) -> None:
    source, target = tmp_path / 'voc.pth', tmp_path / 'new' / 'acr.pth'
    trained, model = network(kind, seed=0), network(kind, seed=1)
    torch.save(official_state(trained), source)
    assert convert(source, target) == 0
    images = torch.randn(2, 3, 40, 24)
    assert not torch.equal(model(images), trained(images))
    load_checkpoint(model, str(target), strict=True)
    assert torch.equal(model(images), trained(images))
    classes = torch.ones(3)
    found, expected = (one.network_outputs(images, classes) for one in (model, trained))
    assert found['maps'].any()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    written = torch.load(target, weights_only=True)
    assert written['meta'] == dict(source='voc.pth')
    assert written['state_dict'].keys() == trained.state_dict().keys()
    assert [file.name for file in target.parent.iterdir()] == ['acr.pth']


def test_half_precision_becomes_float32() -> None:
    state = convert_acr({name: value.half() for name, value in official_state(network('hybrid', 0)).items()})
    assert {value.dtype for value in state.values()} == {torch.float32}


@pytest.mark.parametrize('part', ['cls_head', 'pretrained.model'])
def test_half_a_network_is_refused(part: str) -> None:
    state = {name: value for name, value in official_state(network('plain', 0)).items() if not name.startswith(part)}
    with pytest.raises(ValueError, match=f'no weights of {part} among the'):
        convert_acr(state)


def test_a_second_token_is_refused() -> None:
    state = official_state(network('plain', 0)) | {'pretrained.model.dist_token': torch.zeros(1, 1, 8)}
    with pytest.raises(ValueError, match=r'pretrained\.model\.dist_token \(1\); .* with one class token'):
        convert_acr(state)


class Call:
    """Prints when it is unpickled."""

    def __reduce__(self) -> tuple:
        return print, ('executed',)


def test_mistakes_are_one_line(convert: Callable[..., int], check_refusal: Callable[..., None], tmp_path: Path) -> None:
    state = official_state(network('plain', 0))
    for name, content in (
        ('foreign', {'backbone.conv1.weight': torch.zeros(1)}),
        ('hostile', dict(state=Call())),
        ('wrapped', dict(model=state, epoch=3)),
        ('empty', {}),
    ):
        torch.save(content, tmp_path / f'{name}.pth')
    (tmp_path / 'damaged.pth').write_bytes(b'no torch file')
    for name, message in (
        ('none', 'no checkpoint at'),
        ('foreign', 'weights of unknown layers: backbone.conv1.weight (1)'),
        ('hostile', 'hostile.pth holds print; expected'),
        ('wrapped', 'wrapped.pth is no state dict'),
        ('empty', 'empty.pth is no state dict'),
        ('damaged', 'damaged.pth cannot be read'),
    ):
        check_refusal(convert, tmp_path / f'{name}.pth', message)
