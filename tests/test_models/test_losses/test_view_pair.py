"""Consistency of what a network says about an image and a moved copy of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmwsss.models.losses import ConsistencyLoss, Seen, ViewPairConsistency, consistency_loss
from mmwsss.ops import TRANSFORMS, move, realign_attention
from mmwsss.registry import MODELS

GRID, LAYERS, HEADS = (2, 3), 2, 4
L1, L2 = dict(type='ConsistencyLoss'), dict(type='ConsistencyLoss', norm='l2')


def build(**settings) -> ViewPairConsistency:
    return MODELS.build(dict(type='ViewPairConsistency', **settings))


def seen(images: Tensor) -> Seen:
    """What a network of patches that know no places says about ``images`` (B, HEADS * D, h, w)."""
    tokens = torch.cat((torch.ones(len(images), 1, images.shape[1]), images.flatten(2).transpose(1, 2)), dim=1)
    heads = tokens.unflatten(2, (HEADS, -1)).transpose(1, 2)
    layers = [(scale * heads @ heads.transpose(2, 3)).softmax(dim=-1) for scale in (1.0, 0.3)[:LAYERS]]
    return Seen(layers, tuple(images.shape[-2:]), images[:, :3].square())


def random_images() -> Tensor:
    return torch.randn(2, HEADS * 2, *GRID)


def random_seen(requires_grad: bool = False) -> Seen:
    side = 1 + GRID[0] * GRID[1]
    layers = [torch.rand(2, HEADS, side, side).softmax(dim=-1).requires_grad_(requires_grad) for _ in range(LAYERS)]
    return Seen(layers, GRID, torch.rand(2, 3, *GRID).requires_grad_(requires_grad))


@pytest.mark.parametrize('norm', ['l1', 'l2'])
def test_loss_by_hand(norm: str) -> None:
    first, second = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 4.0, 1.0])
    expected = dict(l1=5 / 3, l2=13 / 3)[norm]
    assert consistency_loss(first, second, norm).item() == pytest.approx(expected)
    assert ConsistencyLoss(norm, loss_weight=3.0)(first, second).item() == pytest.approx(3 * expected)
    half = ConsistencyLoss(norm)(first.half(), second.half())
    assert half.dtype == torch.float32


def test_an_unknown_norm() -> None:
    with pytest.raises(ValueError, match=r"ConsistencyLoss\.norm has to be one of \('l1', 'l2'\), got 'l3'"):
        ConsistencyLoss('l3')


@pytest.mark.parametrize('activation', ['class_token', 'maps'])
@pytest.mark.parametrize('transform', TRANSFORMS)
def test_zero_for_a_network_that_moves_along(transform: str, activation: str) -> None:
    loss = build(transform=transform, activation=activation, loss_activation=L1, loss_affinity=L1)
    images = random_images()
    first, second = seen(images), seen(loss.move(images))
    assert torch.equal(loss.move(images), move(images, transform))
    losses = loss(first, second)
    assert losses.keys() == {'loss_act', 'loss_aff'}
    for value in losses.values():
        assert value.item() < 1e-7
    for value in loss(first, seen(loss.move(random_images()))).values():
        assert value.item() > 1e-3


@pytest.mark.parametrize('transform', TRANSFORMS)
def test_exactly_zero_for_equal_views(transform: str) -> None:
    loss = build(transform=transform, loss_activation=L1, loss_affinity=L2)
    first = random_seen()
    grid = tuple(loss.move(torch.empty(GRID)).shape)
    opposite = dict(rot90='rot270', rot270='rot90').get(transform, transform)
    moved = Seen([realign_attention(weights, GRID, opposite) for weights in first.attention], grid)
    losses = loss(first, moved)
    assert [value.item() for value in losses.values()] == [0.0, 0.0]


def test_values_are_means_over_layers_of_averaged_heads() -> None:
    loss = build(loss_activation=dict(L1, loss_weight=2.0), loss_affinity=dict(L2, loss_weight=3.0))
    first, second = random_seen(), random_seen()
    columns = [2, 1, 0, 5, 4, 3]  # a mirrored grid of 2 x 3
    activation, affinity = [], []
    for one, other in zip(first.attention, second.attention):
        one, other = one.mean(dim=1), other.mean(dim=1)
        activation.append((one[:, 0, 1:] - other[:, 0, 1:][:, columns]).abs())
        affinity.append((one[:, 1:, 1:] - other[:, 1:, 1:][:, columns][:, :, columns]).square())
    losses = loss(first, second)
    torch.testing.assert_close(losses['loss_act'], 2 * torch.stack(activation).mean())
    torch.testing.assert_close(losses['loss_aff'], 3 * torch.stack(affinity).mean())
    maps = build(activation='maps', loss_activation=L1)(first, second)
    torch.testing.assert_close(maps['loss_act'], (first.maps - second.maps.flip(-1)).abs().mean())


@pytest.mark.parametrize(
    ('settings', 'keys', 'layers', 'maps'),
    [
        (dict(), set(), (), False),
        (dict(loss_activation=L1), {'loss_act'}, 'all', False),
        (dict(loss_affinity=L1), {'loss_aff'}, 'all', False),
        (dict(loss_activation=L1, loss_affinity=L1), {'loss_act', 'loss_aff'}, 'all', False),
        (dict(loss_activation=L1, activation='maps'), {'loss_act'}, (), True),
        (dict(loss_affinity=L1, activation='maps'), {'loss_aff'}, 'all', False),
        (dict(loss_activation=L1, loss_affinity=L1, activation='maps'), {'loss_act', 'loss_aff'}, 'all', True),
        (dict(loss_affinity=L1, layers=[-1]), {'loss_aff'}, [-1], False),
        (dict(layers=[-1]), set(), (), False),
    ],
)
def test_switches(settings: dict, keys: set[str], layers, maps: bool) -> None:
    loss = build(**settings)
    assert loss(random_seen(), random_seen()).keys() == keys
    assert loss.attention_layers == layers
    assert loss.compares_maps == maps


def test_maps_need_no_attention() -> None:
    loss = build(activation='maps', loss_activation=L1)
    first, second = (Seen([], GRID, torch.rand(1, 3, *GRID)) for _ in range(2))
    assert loss(first, second)['loss_act'] > 0


@pytest.mark.parametrize('activation', ['class_token', 'maps'])
def test_gradient_reaches_both_views(activation: str) -> None:
    first, second = random_seen(True), random_seen(True)
    losses = build(activation=activation, loss_activation=L1, loss_affinity=L1)(first, second)
    sum(losses.values()).backward()
    for view in (first, second):
        assert all(weights.grad.any() for weights in view.attention)
        assert (view.maps.grad is not None) == (activation == 'maps')


def test_halves_of_a_batch() -> None:
    whole = random_seen()
    for i, half in enumerate(whole.split()):
        assert half.grid == GRID
        assert torch.equal(half.maps, whole.maps[i : i + 1])
        assert all(torch.equal(part, one[i : i + 1]) for part, one in zip(half.attention, whole.attention))
    assert [half.maps for half in whole._replace(maps=None).split()] == [None, None]


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"activation has to be one of \('class_token', 'maps'\), got 'cam'"):
        build(activation='cam')
    with pytest.raises(ValueError, match=r"transform has to be one of .*, got 'zoom'"):
        build(transform='zoom')
