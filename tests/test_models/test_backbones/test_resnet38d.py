"""ResNet38d: what is frozen, shapes of the features, dropout and settings that do not fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmwsss.models.backbones.resnet38d import PreActBlock, PreActBottleneck
from mmwsss.registry import MODELS


def build(**settings) -> nn.Module:
    """A network without memory: what is frozen and which shapes there are does not depend on weights."""
    with torch.device('meta'):
        return MODELS.build(dict(type='ResNet38d', **settings))


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def test_taps_and_strides() -> None:
    features = build()(torch.empty(2, 3, 32, 48, device='meta'))
    assert [tuple(feature.shape) for feature in features] == [
        (2, 256, 8, 12),
        (2, 512, 4, 6),
        (2, 1024, 4, 6),
        (2, 4096, 4, 6),
    ]


@pytest.mark.parametrize('side', [33, 41])
def test_sizes_are_rounded_up(side: int) -> None:
    features = build()(torch.empty(1, 3, side, 32, device='meta'))
    assert features[-1].shape[-2:] == (-(-side // 8), 4)


def test_the_last_block_has_the_dilation_of_its_task() -> None:
    maps, segmentation = build(), build(last_dilation=4)
    assert maps.b7.conv_branch2b1.dilation == (2, 2)
    assert segmentation.b7.conv_branch2b1.dilation == (4, 4)
    for model in (maps, segmentation):
        assert model.b6.conv_branch2b1.dilation == (4, 4)
        assert model.b5.conv_branch2a.dilation == (1, 1), 'the first convolution of b5 has none'
        assert model.b5_1.conv_branch2a.dilation == model.b5.conv_branch2b1.dilation == (2, 2)


@pytest.mark.parametrize(
    ('stages', 'frozen'),
    [
        (0, set()),
        (1, {'conv1a'}),
        (2, {'conv1a', 'b2', 'b2_1', 'b2_2'}),
        (3, {'conv1a', 'b2', 'b2_1', 'b2_2', 'b3', 'b3_1', 'b3_2'}),
    ],
)
def test_frozen_stages(stages: int, frozen: set[str]) -> None:
    model = build(frozen_stages=stages, norm_eval=False)
    still = {name.split('.')[0] for name, weight in model.named_parameters() if not weight.requires_grad}
    learning = {name.split('.')[0] for name, weight in model.named_parameters() if weight.requires_grad}
    assert still == frozen
    assert not learning & frozen
    assert build().b2.conv_branch2a.weight.requires_grad is False, 'stage b2 is frozen unless told otherwise'


@pytest.mark.parametrize('norm_eval', [True, False])
def test_batch_norms(norm_eval: bool) -> None:
    model = build(frozen_stages=0, norm_eval=norm_eval)
    assert model.train() is model
    assert model.training
    assert model.b6.dropout.training, 'dropout is part of the training'
    for norm in norms(model):
        assert norm.training is not norm_eval
        assert norm.weight.requires_grad is norm.bias.requires_grad is not norm_eval
    assert model.conv1a.weight.requires_grad
    assert not any(module.training for module in model.eval().modules())


def test_a_stride_or_more_channels_need_a_shortcut_of_their_own() -> None:
    assert PreActBlock(8, 8, 8).conv_branch1 is None
    assert PreActBlock(8, 8, 8, stride=2).conv_branch1 is not None
    assert PreActBlock(8, 8, 16).conv_branch1 is not None
    block, images = PreActBlock(4, 4, 4).eval(), torch.randn(1, 4, 5, 5)
    nn.init.zeros_(block.conv_branch2b1.weight)
    out, active = block(images)
    assert torch.equal(out, images), 'the shortcut is the input, not its pre-activation'
    assert (active >= 0).all()


def test_dropout_only_in_training() -> None:
    block, images = PreActBottleneck(8, 16, dilation=1, dropout=0.5), torch.rand(1, 8, 4, 4)
    block.eval()
    assert torch.equal(block(images)[0], block(images)[0])
    block.dropout.train()
    assert not torch.equal(block(images)[0], block(images)[0])


@pytest.mark.parametrize('stages', [-1, 6, 'b2'])
def test_unknown_stages(stages: int | str) -> None:
    with pytest.raises(ValueError, match=r'ResNet38d\.frozen_stages has to be 0 to 5, got'):
        build(frozen_stages=stages)
