"""Patch classifier and CAM head."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmwsss.models.heads import CAMHead, PatchClassHead


def softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def test_patch_classifier_values_on_a_rectangular_grid() -> None:
    head = PatchClassHead(6, 4).eval()
    features = torch.randn(2, 6, 3, 5)
    logits = np.einsum('cd,bdhw->bchw', head.classifier.weight.detach().double().numpy(), features.double().numpy())
    np.testing.assert_allclose(head(features).detach().numpy(), logits, atol=1e-5)
    maps = head.maps(features)
    np.testing.assert_allclose(maps.detach().numpy(), softmax(logits), atol=1e-6)
    np.testing.assert_allclose(head.image_scores(maps).detach().numpy(), softmax(logits).max((2, 3)), atol=1e-6)
    assert head.classifier.bias is None


def test_patch_classifier_dropout_only_in_training() -> None:
    head = PatchClassHead(64, 3, dropout=0.5)
    features = torch.ones(1, 64, 2, 2)
    head.train()
    assert not torch.equal(head(features), head(features))
    head.eval()
    assert torch.equal(head(features), head(features))


def test_initial_classifier_is_normal() -> None:
    weight = PatchClassHead(400, 100).classifier.weight
    assert weight.std().item() == pytest.approx(0.05, rel=0.05)
    assert abs(weight.mean().item()) < 0.002


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_softmax_stays_float32(dtype: torch.dtype) -> None:
    head = PatchClassHead(8, 3, pooling=dict(type='TopKPooling', k=2)).eval()
    features = torch.randn(2, 8, 3, 4)
    with torch.autocast('cpu', dtype=dtype):
        assert head(features).dtype == dtype
        maps = head.maps(features)
        scores = head.image_scores(maps)
    assert maps.dtype == scores.dtype == torch.float32
    torch.testing.assert_close(maps.sum(dim=1), torch.ones(2, 3, 4))
    torch.testing.assert_close(maps, head.maps(features), atol=1e-2, rtol=0)


def test_pooling_is_configurable() -> None:
    maps = torch.rand(1, 3, 2, 2)
    for name, expected in (('GlobalMaxPooling', maps.amax((2, 3))), ('GlobalAveragePooling', maps.mean((2, 3)))):
        assert torch.equal(PatchClassHead(4, 3, pooling=dict(type=name)).image_scores(maps), expected)
    assert torch.equal(PatchClassHead(4, 3).image_scores(maps), maps.amax((2, 3)))


def test_cam_is_the_classifier_on_every_patch() -> None:
    head = CAMHead(6, 4).eval()
    features = torch.randn(2, 6, 3, 5)
    maps = head(features)
    weight = head.classifier.weight.detach().double().numpy()[..., 0, 0]
    np.testing.assert_allclose(maps.detach().numpy(), np.einsum('cd,bdhw->bchw', weight, features.double()), atol=1e-6)
    assert maps.shape == (2, 3, 3, 5)  # no channel for the background
    torch.testing.assert_close(head.image_logits(features), maps.mean((2, 3)))


def test_cam_dropout_acts_on_the_image_logits_only() -> None:
    head = CAMHead(64, 4, dropout=0.5).train()
    features = torch.rand(1, 64, 2, 2)
    assert torch.equal(head(features), head(features))
    assert not torch.equal(head.image_logits(features), head.image_logits(features))


@pytest.mark.parametrize('head', [PatchClassHead(4, 3, dropout=0), CAMHead(4, 3)], ids=['patch', 'cam'])
def test_gradient_reaches_features_and_weight(head: torch.nn.Module) -> None:
    features = torch.randn(2, 4, 3, 3, requires_grad=True)
    out = head.maps(features)[:, 1] if isinstance(head, PatchClassHead) else head.image_logits(features)
    out.sum().backward()
    assert (features.grad.abs().sum(dim=1) > 0).all()
    assert head.classifier.weight.grad.abs().sum() > 0


def test_a_given_init_cfg_wins() -> None:
    settings = dict(in_channels=3, num_classes=4)
    for head_type, layer in ((PatchClassHead, 'Linear'), (CAMHead, 'Conv2d')):
        head = head_type(**settings, init_cfg=dict(type='Constant', layer=layer, val=0.5))
        head.init_weights()
        assert (head.classifier.weight == 0.5).all()
        plain = head_type(**settings)
        before = plain.classifier.weight.clone()
        plain.init_weights()
        assert torch.equal(plain.classifier.weight, before)


def test_cam_head_pools_features_before_the_classifier() -> None:
    features = torch.randn(2, 6, 3, 5)
    for name, pooled in (('GlobalMaxPooling', features.amax((2, 3))), ('GlobalAveragePooling', features.mean((2, 3)))):
        head = CAMHead(6, 4, pooling=dict(type=name))
        torch.testing.assert_close(head.image_logits(features), pooled @ head.classifier.weight[:, :, 0, 0].T)
    peaks = CAMHead(6, 4, pooling=dict(type='GlobalMaxPooling')).image_logits(features)
    assert not torch.allclose(peaks, head(features).amax((2, 3)))
    assert torch.equal(CAMHead(6, 4).pooling(features), features.mean((2, 3)))


@pytest.mark.parametrize(
    ('detach', 'to_features', 'to_weight'),
    [('none', True, True), ('features', False, True), ('weights', True, False), ('all', False, False)],
)
def test_gradient_of_the_maps_stops_at_detached_parts(detach: str, to_features: bool, to_weight: bool) -> None:
    head = CAMHead(4, 3, detach=detach)
    features = torch.randn(2, 4, 3, 3, requires_grad=True)
    maps = head(features)
    assert maps.requires_grad == (to_features or to_weight)
    torch.testing.assert_close(maps, head.classifier(features))
    if maps.requires_grad:
        maps.square().sum().backward()
    assert (features.grad is not None) == to_features
    assert (head.classifier.weight.grad is not None) == to_weight
    head.image_logits(features).sum().backward()  # is not concerned
    assert features.grad.abs().sum() > 0
    assert head.classifier.weight.grad.abs().sum() > 0


def test_unknown_detach() -> None:
    with pytest.raises(ValueError, match=r"CAMHead\.detach has to be one of .*'weights', 'all'\), got 'feat'"):
        CAMHead(4, 3, detach='feat')


def test_initial_cam_classifier() -> None:
    assert CAMHead(400, 101).classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert CAMHead(400, 101, init_std=0.1).classifier.weight.std().item() == pytest.approx(0.1, rel=0.05)
    weight = CAMHead(400, 101, init_std=None).classifier.weight
    assert weight.abs().max().item() == pytest.approx(400**-0.5, rel=0.01)  # PyTorch's default is uniform


@pytest.mark.parametrize('name', ['GlobalMaxPooling', 'AdaptiveKPooling', 'TopKPooling'])
def test_cam_head_pools_the_map_of_every_class(name: str) -> None:
    head = CAMHead(6, 4, pooling=dict(type=name), pool='maps', init_std=1.0)
    features = torch.randn(2, 6, 3, 5)
    maps = head.pooled_maps(features)
    torch.testing.assert_close(maps, head(features))
    torch.testing.assert_close(head.image_logits(features), head.pooling(maps))
    plain = CAMHead(6, 4, pooling=dict(type=name))
    plain.load_state_dict(head.state_dict())
    assert not torch.allclose(plain.image_logits(features), head.image_logits(features))
    chosen = head.pooling.selection(maps).flatten(2)
    assert (chosen.any(dim=1) != chosen.all(dim=1)).any(), 'classes choose their own patches'


def test_dropout_and_gradients_of_pooled_maps() -> None:
    head = CAMHead(64, 4, dropout=0.5, pool='maps', detach='all', pooling=dict(type='AdaptiveKPooling')).train()
    features = torch.rand(1, 64, 2, 2, requires_grad=True)
    assert not torch.equal(head.pooled_maps(features), head.pooled_maps(features))
    assert torch.equal(head(features), head(features))
    head.image_logits(features).sum().backward()  # what `detach` says is about the maps alone
    assert features.grad.any()
    assert head.classifier.weight.grad.any()


def test_a_cam_head_that_pools_features_has_no_pooled_maps() -> None:
    with pytest.raises(ValueError, match=r"pools features, .*; set pool='maps'"):
        CAMHead(4, 3).pooled_maps(torch.zeros(1, 4, 2, 2))


def test_unknown_pool() -> None:
    with pytest.raises(ValueError, match=r"CAMHead\.pool has to be one of \('features', 'maps'\), got 'map'"):
        CAMHead(4, 3, pool='map')


def test_pooled_maps_of_the_patch_classifier_are_its_maps() -> None:
    head = PatchClassHead(6, 4, pooling=dict(type='AdaptiveKPooling')).eval()
    features = torch.randn(2, 6, 3, 5)
    assert torch.equal(head.pooled_maps(features), head.maps(features))
    assert torch.equal(head.image_scores(head.maps(features)), head.pooling(head.pooled_maps(features)))
