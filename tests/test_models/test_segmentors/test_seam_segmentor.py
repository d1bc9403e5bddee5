"""SEAM: losses of each switch, maps at the size of the image, prediction with and without tags, views."""

from __future__ import annotations

from itertools import pairwise
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwsss.engine import BFloat16OptimWrapper
from mmwsss.models.segmentors import SEAM
from mmwsss.models.segmentors.seam import enlarged_means, image_logits
from mmwsss.models.segmentors.weak_segmentor import with_background
from mmwsss.pseudo_labels import min_max_normalize
from mmwsss.pseudo_labels.crop_views import CropViews
from mmwsss.registry import MODELS

LABELS = [[1, 0, 0], [0, 1, 1]]
CLS = {'loss_cls'}
EQUIVARIANCE, MIN_POOL = dict(type='EquivariantRegularization'), dict(type='MinPoolingLoss')


class Stages(nn.Module):
    """Stand-in backbone of output stride 4 with four features."""

    def __init__(self) -> None:
        super().__init__()
        channels = (3, 4, 5, 6, 8)
        self.stages = nn.ModuleList(
            nn.Conv2d(a, b, 3, 2 if i < 2 else 1, 1) for i, (a, b) in enumerate(pairwise(channels))
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = []
        for stage in self.stages:
            x = stage(x).relu()
            features.append(x)
        return tuple(features)


def build(seed: int = 1, **settings) -> SEAM:
    torch.manual_seed(seed)
    config = dict(
        type='SEAM',
        backbone=dict(type=Stages),
        head=dict(type='SEAMHead', in_channels=(5, 6, 8), num_classes=4, tap_channels=(5, 7), channels=9),
        loss_cls=dict(type='MultiLabelSoftMarginLoss'),
        loss_equivariance=EQUIVARIANCE,
        loss_min_pool=MIN_POOL,
    )
    model = MODELS.build(config | settings)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.5)
    return model.eval()


@pytest.fixture
def images() -> Tensor:
    torch.manual_seed(2)
    return torch.randn(2, 3, 32, 48)


@pytest.mark.parametrize(
    ('settings', 'keys', 'views'),
    [
        (dict(), CLS | {'loss_er', 'loss_ecr', 'loss_min'}, 2),
        (dict(loss_min_pool=None), CLS | {'loss_er', 'loss_ecr'}, 2),
        (dict(loss_equivariance=None), CLS | {'loss_min'}, 2),
        (dict(loss_equivariance=None, loss_min_pool=None), CLS, 2),
        (dict(loss_equivariance=None, second_scale=None), CLS | {'loss_min'}, 1),
        (dict(loss_equivariance=None, loss_min_pool=None, second_scale=None), CLS, 1),
    ],
)
def test_losses_of_each_switch(images, make_samples, settings: dict, keys: set[str], views: int) -> None:
    model = build(**settings)
    with mock.patch.object(model, 'coarse_maps', wraps=model.coarse_maps) as coarse_maps:
        losses = model.loss(images, make_samples(LABELS))
    assert losses.keys() == keys
    sizes = [tuple(call.args[0].shape[-2:]) for call in coarse_maps.call_args_list]
    assert sizes == [(32, 48), (9, 14)][:views]
    for loss in losses.values():
        assert loss.dim() == 0
        assert loss > 0
        assert loss.requires_grad
    assert torch.equal(model.loss(dict(view_1=images), make_samples(LABELS))['loss_cls'], losses['loss_cls'])


def test_values_are_averages_over_views(images, make_samples) -> None:
    model, labels = build(second_scale=0.5), torch.tensor(LABELS).float()
    losses = model.loss(images, make_samples(LABELS))
    small = F.interpolate(images, scale_factor=0.5, mode='bilinear', align_corners=True)
    (cam1, refined1), (cam2, refined2) = (model.maps_of(view) for view in (images, small))
    margins = [F.multilabel_soft_margin_loss(image_logits(cam), labels) for cam in (cam1, cam2)]
    torch.testing.assert_close(losses['loss_cls'], sum(margins) / 2)
    pooled = [model.loss_min_pool(maps[:, 1:], labels) for maps in (refined1, refined2)]
    torch.testing.assert_close(losses['loss_min'], sum(pooled) / 2)
    both = model.loss_equivariance((cam1, cam2), (refined1, refined2), with_background(labels))
    for name, value in both.items():
        torch.testing.assert_close(losses[name], value)


@pytest.mark.parametrize('size', [(32, 48), (9, 5), (4, 6)])
def test_means_of_enlarged_maps_need_no_enlarging(size) -> None:
    maps = torch.randn(2, 3, 9, 14, generator=torch.Generator().manual_seed(0))
    enlarged = F.interpolate(maps, size, mode='bilinear', align_corners=True)
    torch.testing.assert_close(enlarged_means(maps, size), enlarged.mean(dim=(-2, -1)))


@pytest.mark.parametrize('share', [0.2, 0.9])
def test_maps_of_absent_classes_are_not_needed(images, make_samples, share: float) -> None:
    found = []
    for told in (False, True):
        model, samples = build(loss_equivariance=EQUIVARIANCE | dict(hard_share=share)), make_samples(LABELS)
        for sample, labels in zip(samples, LABELS):
            sample.set_metainfo(dict(num_present=sum(labels)) if told else {})
        losses = model.loss(images, samples)
        sum(losses.values()).backward()
        found.append(losses | {name: weight.grad for name, weight in model.named_parameters()})
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, msg=name)


def test_every_part_learns(images, make_samples) -> None:
    model = build().train()
    sum(model.loss(images, make_samples(LABELS)).values()).backward()
    for name, weight in model.named_parameters():
        assert weight.grad.isfinite().all(), name
        assert weight.grad.any(), name


def test_a_training_step_in_bfloat16(images, make_samples) -> None:
    model = build().train()
    wrapper = BFloat16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        losses = model.loss(images, make_samples(LABELS))
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


def test_an_image_without_objects(images, make_samples) -> None:
    losses = build().loss(images, make_samples([[0, 0, 0]] * 2))
    assert all(loss.isfinite() for loss in losses.values())
    assert losses['loss_min'] == losses['loss_er'] == 0


def test_maps_have_the_size_of_the_image(images) -> None:
    model = build()
    cam, refined = model.maps_of(images)
    assert cam.shape == refined.shape == (2, 4, 32, 48)
    assert torch.equal(model(images), refined)
    assert model.extract_feat(images).shape == (2, 8, 8, 12)
    outputs = model.network_outputs(images)
    assert torch.equal(outputs['maps'], refined[:, 1:])
    torch.testing.assert_close(outputs['scores'], cam.mean(dim=(-2, -1))[:, 1:].sigmoid())
    free = model.encode_decode(images)
    assert free.shape == (2, 3, 32, 48)
    assert not free[outputs['scores'] <= 0.5].any()


@pytest.mark.parametrize('views', [None, dict(scales=(0.5, 1, 1.5), flip=True)])
def test_prediction_with_tags(images, make_samples, views: dict | None) -> None:
    model = build(test_cfg=dict(views=views))
    samples = make_samples(LABELS)
    for sample in samples:
        sample.set_metainfo(dict(ori_shape=(24, 36)))
    for sample, labels in zip(model.predict(images, samples), LABELS):
        present = torch.tensor(labels).bool()
        maps = sample.localization_maps.data
        assert sample.used_image_labels
        assert sample.pred_sem_seg.data.shape == sample.pseudo_mask.data.shape == (1, 24, 36)
        assert maps.shape == (3, 24, 36)
        assert torch.equal(maps.flatten(1).any(dim=1), present)
        assert maps.max() <= 1
        assert set(sample.pseudo_mask.data.unique().tolist()) <= {0, *(present.nonzero()[:, 0] + 1).tolist()}
        assert sample.pseudo_mask.data.any()


@pytest.mark.parametrize('views', [None, dict(scales=(1, 0.5), flip=True)])
def test_label_free_masks_never_use_labels(images, make_samples, views: dict | None) -> None:
    model = build(test_cfg=dict(views=views))
    free = model.predict(images, make_samples(None, count=2))
    tagged = model.predict(images, make_samples([[1, 1, 1]] * 2))
    alone = model.predict(images)
    for one, other, bare in zip(free, tagged, alone):
        assert not one.used_image_labels
        assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)
        predicted = (one.image_scores > 0.5).nonzero()[:, 0] + 1
        for mask in (one.pred_sem_seg.data, one.pseudo_mask.data):
            assert set(mask.unique().tolist()) <= {0, *predicted.tolist()}
        assert bare.pred_sem_seg.data.shape == (1, 32, 48)


def test_views_are_added_before_the_normalisation(images) -> None:
    model = build(test_cfg=dict(views=dict(scales=(1,), flip=True)))
    plain, mirrored = (model.network_outputs(view)['maps'] for view in (images, images.flip(-1)))
    total = plain + mirrored.flip(-1)
    low, high = total.amin((-2, -1), keepdim=True), total.amax((-2, -1), keepdim=True)
    kept = torch.where(total < low + 1e-5, 0, total)
    expected = (kept - low - 1e-5) / (high - low + 1e-5)
    maps = model.viewed_outputs(images)['maps']
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)
    assert maps[total > low + 1e-4].min() >= 0, 'only pixels at a minimum above 0 fall below 0'


def test_views_of_any_scale_are_brought_to_the_image(images) -> None:
    model = build(test_cfg=dict(views=dict(scales=(0.5, 0.7, 1.3), flip=True)))
    outputs = model.viewed_outputs(images[..., :31, :45])
    assert outputs['maps'].shape == (2, 3, 31, 45)
    assert outputs['scores'].shape == (2, 3)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(second_scale=None), r'loss_equivariance of SEAM compares two views; set second_scale'),
        (dict(second_scale=0), r'second_scale of SEAM has to be positive, got 0'),
        (dict(second_scale=-0.3), r'second_scale of SEAM has to be positive, got -0\.3'),
        (dict(pretrained='a.pth'), r'`pretrained` is not supported'),
        (dict(test_cfg=dict(pseudo_source='segmentation')), r'test_cfg\.pseudo_source has to be one of'),
    ],
)
def test_settings_that_do_not_fit(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**settings)


@pytest.mark.parametrize(
    ('labels', 'message'), [([[1, 0]] * 2, r'expected 3 image labels'), (None, r'carries no image_labels')]
)
def test_labels_that_do_not_fit(images, make_samples, labels: list | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build().loss(images, make_samples(labels, count=2))


def test_equivariance_of_maps_waits_for_the_warm_up(images, make_samples) -> None:
    model, samples = build(warmup_iters=3), make_samples(LABELS)
    with pytest.raises(RuntimeError, match=r'warmup_iters of SEAM needs .*IterationHook'):
        model.loss(images, samples)
    expected = build().loss(images, samples)
    found = []
    for model.iteration in (0, 2, 3):
        losses = model.loss(images, samples)
        found.append('loss_er' in losses)
        assert losses.keys() | {'loss_er'} == expected.keys()
        for name, value in losses.items():
            torch.testing.assert_close(value, expected[name])
    assert found == [False, False, True]
    model.iteration = 0
    model.train()
    sum(model.loss(images, samples).values()).backward()
    assert all(weight.grad is not None for weight in model.parameters()), 'every process of a run has the same'


def test_maps_of_crops_are_not_shifted(images) -> None:
    views = dict(scales=(1.0, 1.5), crop_size=32, stride=16)
    model = build(test_cfg=dict(views=dict(type='multi_crop', **views)))
    with torch.no_grad():
        outputs = model.viewed_outputs(images)
        raw = CropViews(**views).outputs(model.network_outputs, images)
    torch.testing.assert_close(outputs['maps'], min_max_normalize(raw['maps'], cut=1e-5))
    assert torch.equal(outputs['scores'], raw['scores'])
    assert not torch.equal(outputs['maps'], model.finish_views(raw)['maps'])


def test_one_number_stands_for_all_widths() -> None:
    head = MODELS.build(dict(type='SEAMHead', in_channels=6, num_classes=4, tap_channels=(5, 7)))
    assert [layer.in_channels for layer in (head.f8_3, head.f8_4, head.fc8)] == [6, 6, 6]
