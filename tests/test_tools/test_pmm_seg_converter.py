"""The converter of PMM's segmentation checkpoints, from an official file to equal outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.runner.checkpoint import load_checkpoint
from torch import Tensor, nn

from mmwsss.models.utils.pmm_seg_weights import RES2NET_STEM, convert_pmm_seg
from mmwsss.registry import MODELS

BACKBONES = dict(
    scalenet=dict(
        type='ScaleNet', structure=[[16, 8, 8, 0, 56]] * 4, depths=(1, 1, 1, 1), frozen_stages=0, norm_eval=False
    ),
    res2net=dict(
        type='mmpretrain.Res2Net', depth=50, scales=2, base_width=4, deep_stem=True, avg_down=True,
        strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), out_indices=(0, 1, 2, 3),
    ),
)  # fmt: skip


def network(kind: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    common = dict(channels=4, num_classes=3, norm_cfg=dict(type='BN'), align_corners=False)
    model = MODELS.build(
        dict(
            type='MultiViewEncoderDecoder',
            backbone=BACKBONES[kind],
            decode_head=dict(type='PSPHead', in_channels=2048, in_index=3, pool_scales=(1, 2), **common),
            auxiliary_head=dict(
                type='FCNHead', in_channels=1024, in_index=2, num_convs=1, concat_input=False, **common
            ),
        )
    )
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not name.endswith('running_var'):
            nn.init.normal_(value, 1 if name.endswith('weight') and value.ndim == 1 else 0, 0.1)
    return model.eval()


def official_state(model: nn.Module) -> dict[str, Tensor]:
    """Weights of ``model`` under the official names."""
    names = {f'backbone.{ours}.': f'backbone.{theirs}.' for theirs, ours in RES2NET_STEM.items()}
    state = {}
    for name, value in model.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state[name] = value
    return state


@pytest.fixture
def convert(load_converter: Callable[[str], Callable[..., int]]) -> Callable[..., int]:
    return load_converter('pmm_seg_to_mmwsss')


@pytest.mark.parametrize('kind', BACKBONES)
def test_outputs_are_equal(convert: Callable[..., int], tmp_path: Path, kind: str) -> None:
    source, target = tmp_path / 'voc.pth', tmp_path / 'new' / 'pspnet.pth'
    trained, model = network(kind, seed=0), network(kind, seed=1)
    state = official_state(trained)
    assert ('backbone.conv1.0.weight' in state) == (kind == 'res2net')
    torch.save(dict(meta=dict(epoch=3), state_dict=state), source)
    assert convert(source, target) == 0
    images = torch.randn(1, 3, 40, 24)
    with torch.no_grad():
        expected = [head(trained.extract_feat(images)) for head in (trained.decode_head, trained.auxiliary_head)]
        assert not torch.equal(model(images), expected[0])
        load_checkpoint(model, str(target), strict=True)
        found = [head(model.extract_feat(images)) for head in (model.decode_head, model.auxiliary_head)]
    for ours, theirs in zip(found, expected):
        assert torch.equal(ours, theirs)
        assert ours.std() > 0
    written = torch.load(target, weights_only=True)
    assert written['meta'] == dict(source='voc.pth')
    assert [file.name for file in target.parent.iterdir()] == ['pspnet.pth']


@pytest.mark.parametrize('kind', BACKBONES)
def test_a_backbone_of_imagenet(kind: str) -> None:
    trained = network(kind, 0)
    state = {name.removeprefix('backbone.'): v for name, v in official_state(trained).items() if 'head' not in name}
    state |= {'fc.weight': torch.zeros(3, 2), 'fc.bias': torch.zeros(3)}
    found = convert_pmm_seg(
        {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    )
    assert found.keys() == trained.backbone.state_dict().keys()
    assert {value.dtype for value in found.values()} == {torch.float32, torch.int64}


def test_names_of_the_wide_network_stay() -> None:
    with torch.device('meta'):
        names = MODELS.build(dict(type='ResNet38d')).state_dict()
    assert convert_pmm_seg({f'backbone.{name}': value for name, value in names.items()}).keys() == {
        f'backbone.{name}' for name in names
    }


def test_mistakes_are_one_line(convert: Callable[..., int], check_refusal: Callable[..., None], tmp_path: Path) -> None:
    torch.save({'cls_head.weight': torch.zeros(1)}, tmp_path / 'foreign.pth')
    torch.save(dict(state_dict={}), tmp_path / 'empty.pth')
    torch.save(dict(state=len), tmp_path / 'hostile.pth')
    (tmp_path / 'damaged.pth').write_bytes(b'no torch file')
    for name, message in (
        ('none', 'no checkpoint at'),
        ('foreign', 'weights of unknown layers: cls_head.weight (1)'),
        ('hostile', 'expected a torch file of tensors'),
        ('empty', 'is no state dict'),
        ('damaged', 'damaged.pth cannot be read'),
    ):
        check_refusal(convert, tmp_path / f'{name}.pth', message)
