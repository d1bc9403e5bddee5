"""ScaleNet: what is frozen, shapes, maps smaller than a pool and structures that do not fit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwsss.models.backbones.scalenet import ScaleBlock, ScaleNet
from mmwsss.registry import MODELS

ROWS = [(4, 3, 2, 1, 56), (4, 3, 0, 1, 28), (4, 3, 2, 1, 14), (4, 3, 2, 1, 7)]


def build(**settings) -> nn.Module:
    """A network of four blocks without memory: what is frozen and which shapes there are needs no weights."""
    settings = dict(structure=ROWS, depths=(1, 1, 1, 1)) | settings
    with torch.device('meta'):
        return MODELS.build(dict(type='ScaleNet', **settings))


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize(
    ('strides', 'sides'), [((1, 2, 1, 1), (32, 16, 16, 16)), ((1, 2, 2, 2), (32, 16, 8, 4)), ((1, 1, 1, 1), (32,) * 4)]
)
def test_features(strides: tuple[int, ...], sides: tuple[int, ...]) -> None:
    features = build(strides=strides)(torch.empty(2, 3, 128, 256, device='meta'))
    expected = [(2, 256 * 2**i, side, 2 * side) for i, side in enumerate(sides)]
    assert [tuple(feature.shape) for feature in features] == expected


@pytest.mark.parametrize(('name', 'depths'), [('scalenet50', (3, 4, 6, 3)), ('scalenet101', (3, 4, 23, 3))])
def test_named_structures(name: str, depths: tuple[int, ...]) -> None:
    model = build(structure=name, depths=(9,))
    assert tuple(len(getattr(model, f'layer{i + 1}')) for i in range(4)) == depths
    for stage in range(4):
        shortcuts = [block.downsample is not None for block in getattr(model, f'layer{stage + 1}')]
        assert shortcuts == [True] + [False] * (depths[stage] - 1)


def test_dilations_of_stages() -> None:
    model = build(dilations=(1, 1, 2, 4))
    found = [getattr(model, f'layer{i + 1}')[0].conv2['0'].dilation for i in range(4)]
    assert found == [(1, 1), (1, 1), (2, 2), (4, 4)]


def test_branches_follow_the_structure() -> None:
    block = ScaleBlock(8, 4, (5, 0, 3, 2, 4))
    assert list(block.conv2) == list(block.bn2) == ['0', '2', '3']
    assert [conv.out_channels for conv in block.conv2.values()] == [5, 3, 2]
    assert [conv.kernel_size for conv in block.conv2.values()] == [(3, 3), (1, 1), (1, 1)]


@pytest.mark.parametrize(
    ('stages', 'frozen'), [(0, set()), (1, {'conv1', 'bn1', 'layer1'}), (2, {'conv1', 'bn1', 'layer1', 'layer2'})]
)
def test_frozen_stages(stages: int, frozen: set[str]) -> None:
    model = build(frozen_stages=stages, norm_eval=False)
    still = {name.split('.')[0] for name, weight in model.named_parameters() if not weight.requires_grad}
    learning = {name.split('.')[0] for name, weight in model.named_parameters() if weight.requires_grad}
    assert still == frozen
    assert not learning & frozen


@pytest.mark.parametrize('norm_eval', [True, False])
def test_batch_norms(norm_eval: bool) -> None:
    model = build(frozen_stages=0, norm_eval=norm_eval)
    assert model.train() is model
    assert model.layer3.training
    for norm in norms(model):
        assert norm.training is not norm_eval
        assert norm.weight.requires_grad is norm.bias.requires_grad is not norm_eval
    assert model.conv1.weight.requires_grad
    assert not any(module.training for module in model.eval().modules())


def test_a_training_step_leaves_what_is_frozen_alone() -> None:
    model = MODELS.build(dict(type='ScaleNet', structure=ROWS, depths=(1, 1, 1, 1))).train()
    before = [norm.running_mean.clone() for norm in norms(model)]
    model(torch.randn(1, 3, 64, 64))[-1].sum().backward()
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms(model), before))
    for name, weight in model.named_parameters():
        learns = weight.dim() == 4 and name.startswith(('layer2', 'layer3', 'layer4')) and '.downsample.1' not in name
        assert (weight.grad is not None) is learns, name


def passed_by(block: ScaleBlock, images: Tensor) -> Tensor:
    """What the branch of pool 7 adds to a block, before its norm."""
    seen = []
    hook = block.bn2['3'].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    block(images)
    hook.remove()
    return seen[0]


def block_of(official: bool) -> ScaleBlock:
    torch.manual_seed(1)
    return ScaleBlock(8, 2, (1, 0, 0, 3, 7), official_small_pool=official).eval()


@pytest.mark.parametrize('size', [(5, 9), (9, 5), (5, 6), (6, 5), (3, 3)])
def test_maps_smaller_than_the_pool_are_pooled_wholly(size: tuple[int, int]) -> None:
    block, images = block_of(official=False), torch.randn(2, 8, *size)
    out = passed_by(block, images)
    assert out.shape == (2, 3, *size)
    active = block.bn1(block.conv1(images)).relu()
    expected = block.conv2['3'](active.amax(dim=(-2, -1), keepdim=True))
    torch.testing.assert_close(out, expected.expand_as(out))
    assert block(images).shape == (2, 8, *size)


def test_the_official_pool_sees_the_first_columns() -> None:
    own, official, images = block_of(False), block_of(True), torch.randn(1, 8, 4, 6)
    active = official.bn1(official.conv1(images)).relu()
    expected = official.conv2['3'](F.max_pool2d(active[..., :4], 4))
    torch.testing.assert_close(passed_by(official, images), expected.expand(1, 3, 4, 6))
    changed = images.clone()
    changed[..., 4:] += 5
    torch.testing.assert_close(passed_by(official, changed), passed_by(official, images))
    assert not torch.allclose(passed_by(own, changed), passed_by(own, images))
    with pytest.raises(RuntimeError):
        official(torch.randn(1, 8, 6, 4))


def test_large_maps_do_not_depend_on_the_switch() -> None:
    images = torch.randn(1, 8, 14, 9)
    assert torch.equal(block_of(False)(images), block_of(True)(images))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (
            dict(structure='scalenet99'),
            r"ScaleNet\.structure has to be one of .*scalenet101.* or rows, got 'scalenet99'",
        ),
        (dict(structure=ROWS[:3]), r'one row of its structure per block, 4, got 3'),
        (dict(depths=(3, 4, 23, 3)), r'one row of its structure per block, 33, got 4'),
    ],
)
def test_structures_that_do_not_fit(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**settings)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(frozen_stages=5), 'frozen_stages has to be 0 to 4'),
        (dict(frozen_stages=-1), 'frozen_stages has to be 0 to 4'),
        (dict(strides=(1, 2, 1)), 'one of each stage'),
        (dict(structure=[(4, 4, 4, 4, 4, 7)] * 4, depths=(1, 1, 1, 1)), 'widths and a side'),
    ],
)
def test_settings_that_do_not_fit_the_stages(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScaleNet(**settings)


def test_norms_of_frozen_stages_keep_their_statistics() -> None:
    net = ScaleNet(structure=[(4, 0, 0, 0, 28)] * 4, depths=(1, 1, 1, 1), frozen_stages=1, norm_eval=False).train()
    before = net.bn1.running_mean.clone(), net.layer2[0].bn1.running_mean.clone()
    net(torch.randn(2, 3, 32, 32) + 1)
    torch.testing.assert_close(net.bn1.running_mean, before[0], rtol=0, atol=0)
    assert not torch.equal(net.layer2[0].bn1.running_mean, before[1])
