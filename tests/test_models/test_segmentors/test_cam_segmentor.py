"""CAM baseline: maps, thresholds and learning."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmwsss.models.segmentors import CAMClassifier
from mmwsss.pseudo_labels import peak_normalize
from mmwsss.registry import MODELS

LABELS = [[1, 0], [0, 1], [1, 1], [0, 0]]


@pytest.fixture
def build(backbone_cfg):
    def make(**settings) -> CAMClassifier:
        head = dict(type='CAMHead', in_channels=8, num_classes=3)
        return MODELS.build({**dict(type='CAMClassifier', backbone=backbone_cfg, head=head), **settings})

    return make


def test_loss_is_binary_cross_entropy_of_the_averaged_features(build, make_samples) -> None:
    model = build()
    images = torch.randn(4, 3, 16, 24)
    losses = model.loss(images, make_samples(LABELS))
    assert set(losses) == {'loss_cls'}
    logits = model.extract_feat(images).mean((2, 3)) @ model.head.classifier.weight[:, :, 0, 0].T
    expected = F.binary_cross_entropy(logits.double().sigmoid(), torch.tensor(LABELS).double())
    torch.testing.assert_close(losses['loss_cls'].double(), expected)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert model.loss(dict(view_1=images), make_samples(LABELS))['loss_cls'].dtype == torch.float32


def test_maps_are_rectified_and_have_peak_one(build) -> None:
    model = build()
    features = torch.randn(2, 8, 4, 6)
    model.head.classifier.weight.data[1] = 0
    maps, scores = model.localize(features)
    activation = model.head(features)[:, 0].clamp(min=0)
    torch.testing.assert_close(maps[:, 0], activation / activation.amax((1, 2), keepdim=True))
    assert (maps[:, 1] == 0).all()
    torch.testing.assert_close(scores[:, 1], torch.full((2,), 0.5))


def test_classes_below_the_label_threshold_are_dropped_without_labels(build) -> None:
    maps, scores = peak_normalize(torch.rand(1, 2, 4, 4)), torch.tensor([[0.6, 0.3]])
    model = build()
    assert (model.pseudo_maps(maps, None, scores)[:, 1] == 0).all()
    assert torch.equal(model.pseudo_maps(maps, None, scores)[:, 0], maps[:, 0])
    assert torch.equal(build(test_cfg=dict(label_threshold=0.2)).pseudo_maps(maps, None, scores), maps)
    labels = torch.tensor([[0.0, 1.0]])
    assert (model.pseudo_maps(maps, labels, scores)[:, 0] == 0).all()
    assert torch.equal(model.pseudo_maps(maps, labels, scores)[:, 1], maps[:, 1])
    faded = model.pseudo_maps(0.25 * maps, labels, scores)
    torch.testing.assert_close(faded[:, 1], maps[:, 1], msg='a fusion of views lowers the peaks')


def test_background_grows_with_its_setting(build, make_samples) -> None:
    assert build().test_cfg['bg_setting'] == 0.3
    images = torch.randn(2, 3, 16, 16)
    model = build()
    model.head.classifier.weight.data.mul_(100)
    foreground = []
    for setting in (0.0, 0.3, 0.7, 1.0):
        model.test_cfg['bg_setting'] = setting
        out = model.predict(images, make_samples([[1, 0], [1, 1]]))
        masks = torch.cat([sample.pseudo_mask.data for sample in out])
        assert (out[0].pseudo_mask.data <= 1).all()
        maps = out[0].localization_maps.data
        assert torch.equal(out[0].pseudo_mask.data[0] == 1, maps[0] > setting)
        foreground.append((masks > 0).sum().item())
    assert foreground == sorted(foreground, reverse=True)
    assert foreground[0] > foreground[2] > foreground[3] == 0


def test_prediction_ignores_labels_and_scores_are_probabilities(build, make_samples) -> None:
    model = build()
    model.head.classifier.weight.data.mul_(100)
    images = torch.randn(2, 3, 16, 16)
    outs = [model.predict(images, make_samples(labels)) for labels in ([[1, 0], [0, 1]], [[0, 1], [0, 0]])]
    for a, b in zip(*outs):
        assert torch.equal(a.pred_sem_seg.data, b.pred_sem_seg.data)
        assert ((a.image_scores > 0) & (a.image_scores < 1)).all()
        assert a.localization_maps.data.shape == (2, 16, 16)
    assert (outs[1][1].pseudo_mask.data == 0).all()


def test_descent_lowers_the_loss(build, make_samples) -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    images, history = torch.randn(4, 3, 16, 16), []
    for _ in range(8):
        (loss,) = model.loss(images, make_samples(LABELS)).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.9 * history[0]
