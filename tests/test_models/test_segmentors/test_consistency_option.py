"""ACR's consistency of two views as an option of the other segmentors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from cosa_cases import build_cosa, make_views
from cosa_cases import make_samples as cosa_samples
from torch import Tensor

from mmwsss.models.losses import Seen
from mmwsss.registry import MODELS

LABELS = [[1, 0, 0], [0, 1, 1]]
TERMS = {'loss_act', 'loss_aff'}
L1 = dict(type='ConsistencyLoss', loss_weight=10.0)


def consistency(**settings) -> dict:
    return {**dict(type='ViewPairConsistency', loss_activation=L1, loss_affinity=L1), **settings}


@pytest.fixture
def make(backbone_cfg, make_samples) -> Callable[..., tuple]:
    """A model, and a function that gives its losses."""

    def build(kind: str, **settings) -> tuple[torch.nn.Module, Callable[[], dict[str, Tensor]]]:
        if kind == 'CoSA':
            model, views = build_cosa(**settings), make_views()
            return model, lambda: model.loss(views, cosa_samples())
        config = dict(
            type=kind,
            data_preprocessor=dict(type='WeakSegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3),
            backbone=backbone_cfg,
            head=dict(type='PatchClassHead', in_channels=8, num_classes=4, dropout=0.0),
            loss_mce=dict(type='MultiLabelClsLoss'),
            **settings,
        )
        model = MODELS.build(config).train()
        for weight in model.backbone.parameters():
            torch.nn.init.normal_(weight, std=0.5)
        images = torch.randn(2, 3, 16, 16)
        return model, lambda: model.loss(images, make_samples(LABELS))

    return build


def backbone_of(model: torch.nn.Module) -> torch.nn.Module:
    return model.online.backbone if hasattr(model, 'online') else model.backbone


@pytest.mark.parametrize('kind', ['ViTPCM', 'APC', 'CoSA'])
def test_off_unless_asked_for(make, kind: str) -> None:
    model, losses = make(kind)
    assert model.consistency is None
    assert not TERMS & losses().keys()


@pytest.mark.parametrize('activation', ['class_token', 'maps'])
@pytest.mark.parametrize('kind', ['ViTPCM', 'APC', 'CoSA'])
def test_both_terms_train_the_backbone(make, kind: str, activation: str) -> None:
    _, without = make(kind)
    expected = without().keys() | TERMS
    model, losses = make(kind, consistency=consistency(activation=activation, layers=[-2]))
    found = losses()
    assert found.keys() == expected
    for name in sorted(TERMS):
        model.zero_grad()
        assert found[name] > 0
        found[name].backward(retain_graph=True)
        moved = {n for n, weight in backbone_of(model).named_parameters() if weight.grad is not None}
        assert any(n.startswith('layers.0.attn') for n in moved), name
        if hasattr(model, 'assignment'):
            assert all(weight.grad is None for weight in model.assignment.parameters())


@pytest.mark.parametrize('kind', ['ViTPCM', 'APC', 'CoSA'])
def test_each_term_alone(make, kind: str) -> None:
    for off, left in (('loss_activation', {'loss_aff'}), ('loss_affinity', {'loss_act'})):
        _, losses = make(kind, consistency=consistency(**{off: None}))
        assert TERMS & losses().keys() == left


@pytest.mark.parametrize('transform', ['hflip', 'rot90'])
def test_values_are_those_of_the_two_passes(make, make_samples, transform: str) -> None:
    model, _ = make('ViTPCM', consistency=consistency(transform=transform, activation='maps', layers=[0, 2]))
    images = torch.randn(2, 3, 16, 24)
    losses = model.loss(images, make_samples(LABELS))
    views = []
    for view in (images, model.consistency.move(images)):
        encoded = model.backbone.encode(view, [0, 2])
        views.append(Seen(encoded.attention, encoded.grid, model.head.maps(encoded.features[-1])))
    for name, value in model.consistency(*views).items():
        torch.testing.assert_close(losses[name], value)


def test_the_other_losses_stay_as_they_are(make) -> None:
    torch.manual_seed(3)
    plain, without = make('ViTPCM')
    torch.manual_seed(3)
    model, losses = make('ViTPCM', consistency=consistency())
    assert all(torch.equal(*pair) for pair in zip(plain.parameters(), model.parameters()))
    torch.testing.assert_close(losses()['loss_mce'], without()['loss_mce'])


def test_cosa_compares_from_the_first_iteration_on(make) -> None:
    _, losses = make('CoSA', consistency=consistency(), warmup_iters=5)
    assert losses().keys() >= TERMS
