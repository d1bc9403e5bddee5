"""ViT-PCM: teacher, switches, prediction and learning."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import mmcv
import numpy as np
import pytest
import torch

from mmwsss.engine import BFloat16OptimWrapper
from mmwsss.models.losses.equivariance import equivariance_loss, equivariance_target
from mmwsss.models.segmentors import ViTPCM
from mmwsss.models.segmentors.vitpcm import view_records
from mmwsss.ops import tile_views, untile_views
from mmwsss.pseudo_labels.labeler import LabelState, LabelStep, PseudoLabeler
from mmwsss.registry import MODELS

LABELS = [[1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0]]


@pytest.fixture
def build(backbone_cfg):
    def make(drop_rate: float = 0.0, dropout: float = 0.2, **settings) -> ViTPCM:
        config = dict(
            type='ViTPCM',
            backbone={**backbone_cfg, 'drop_rate': drop_rate},
            neck=dict(type='HVBiLSTM', in_channels=8, hidden=4, dropout=dropout),
            head=dict(type='PatchClassHead', in_channels=16, num_classes=4, dropout=dropout),
            loss_mce=dict(type='MultiLabelClsLoss'),
            loss_reg=dict(type='ClassifierL2'),
            loss_et=dict(type='EquivarianceLoss'),
        )
        model = MODELS.build({**config, **settings})
        model.train()
        return model

    return make


@pytest.fixture
def batch(make_samples):
    """Four images of 16 px and their views of 8 px, one of them cropped, all flipped differently."""
    samples = make_samples(LABELS)
    for i, sample in enumerate(samples):
        first = np.array([i & 1, i >> 1, i == 2, *[0] * 6], dtype=np.float32)
        box = [4, 0, 12, 8] if i == 1 else [0] * 4
        second = np.array([i >> 1, i & 1, i == 1, *box, *([8, 8] if i != 1 else [0, 0])], dtype=np.float32)
        sample.set_metainfo(dict(record_1=first, record_2=second))
    return dict(view_1=torch.randn(4, 3, 16, 16), view_2=torch.randn(4, 3, 8, 8)), samples


def test_losses_are_those_of_the_formula(build, batch) -> None:
    inputs, samples = batch
    model = build(dropout=0.0)
    losses = model.loss(inputs, samples)
    assert set(losses) == {'loss_mce', 'loss_reg', 'loss_et'}
    labels = torch.tensor([[1, *row] for row in LABELS], dtype=torch.float32)
    maps = model.maps(inputs['view_1'])
    student = untile_views(model.maps(tile_views(inputs['view_2'])))
    target = equivariance_target(maps, *view_records(samples), 4, labels)
    torch.testing.assert_close(losses['loss_et'], equivariance_loss(student, target))
    torch.testing.assert_close(losses['loss_mce'], model.loss_mce(maps.amax((2, 3)), labels))
    torch.testing.assert_close(losses['loss_reg'], 0.01 * model.head.classifier.weight.square().sum())


@pytest.mark.parametrize('drop_rate', [0.0, 0.5])
def test_teacher_is_the_forward_without_dropout(build, drop_rate: float) -> None:
    model = build(drop_rate=drop_rate, dropout=0.5)
    images = torch.randn(4, 3, 16, 16)
    tokens = model.backbone(images)[-1]
    maps = model.head.maps(model.condition(tokens))
    with mock.patch.object(model.backbone, 'forward', wraps=model.backbone.forward) as forward:
        teacher = model.teacher_maps(images, tokens, maps)
    assert forward.call_count == (1 if drop_rate else 0)
    assert not teacher.requires_grad
    assert all(module.training for module in model.modules())
    model.eval()
    torch.testing.assert_close(teacher, model.maps(images))
    assert (teacher - maps).abs().max() > 1e-4


def test_teacher_from_the_training_forward(build) -> None:
    model = build(teacher='train_detach', dropout=0.5)
    maps = model.maps(torch.randn(1, 3, 16, 16))
    teacher = model.teacher_maps(None, None, maps)
    assert torch.equal(teacher, maps)
    assert maps.requires_grad
    assert not teacher.requires_grad


def test_no_gradient_flows_through_the_teacher(build, batch) -> None:
    inputs, samples = batch
    model = build(loss_mce=None, loss_reg=None)
    view_1, view_2 = (inputs[name].requires_grad_() for name in ('view_1', 'view_2'))
    losses = model.loss(dict(view_1=view_1, view_2=view_2), samples)
    assert set(losses) == {'loss_et'}
    losses['loss_et'].backward()
    assert view_1.grad is None or (view_1.grad == 0).all()
    assert (view_2.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_one_view_is_enough_without_equivariance(build, batch) -> None:
    inputs, samples = batch
    model = build(loss_et=None, loss_reg=None, dropout=0.0)
    losses = model.loss(inputs['view_1'], samples)
    assert set(losses) == {'loss_mce'}
    torch.testing.assert_close(losses['loss_mce'], model.loss(inputs, samples)['loss_mce'])


def test_batch_of_a_mosaic(build, batch) -> None:
    inputs, samples = batch
    three = {name: view[:3] for name, view in inputs.items()}
    with pytest.raises(ValueError, match='multiple of 4, got 3'):
        build().loss(three, samples[:3])
    model = build(mosaic=1)
    assert model.loss(three, samples[:3])['loss_et'].isfinite()


def test_background_label(build, make_samples) -> None:
    model = build()
    samples = make_samples([[1, 0, 0], [0, 1, 0]])
    assert model.patch_labels(samples).tolist() == [[1, 1, 0, 0], [1, 0, 1, 0]]
    samples[0].background_label, samples[1].background_label = torch.tensor(0.0), torch.tensor(1.0)
    assert model.patch_labels(samples).tolist() == [[0, 1, 0, 0], [1, 0, 1, 0]]


def test_absent_background_is_absent_from_the_target(build, batch) -> None:
    inputs, samples = batch
    for sample in samples:
        sample.background_label = torch.tensor(0.0)
    model = build()
    with mock.patch.object(model.loss_et, 'forward', wraps=model.loss_et.forward) as loss:
        model.loss(inputs, samples)
    assert (loss.call_args.args[-1][:, 0] == 0).all()


def test_prediction(build, make_samples) -> None:
    model = build()
    model.eval()
    samples = make_samples([[1, 0, 1], [0, 1, 0]])
    samples[1].set_metainfo(dict(ori_shape=(10, 30)))
    images = torch.randn(2, 3, 16, 24)
    free = model.predict(images, make_samples(None, count=2))
    out = model.predict(images, samples)
    assert out[1].pseudo_mask.data.shape == (1, 10, 30)
    for sample, present in zip(out, ({0, 1, 3}, {0, 2})):
        assert set(sample.pseudo_mask.data.unique().tolist()) <= present
        absent = [c for c in range(4) if c not in present]
        assert (sample.localization_maps.data[absent] == 0).all()
        assert (sample.pseudo_maps.data[absent] == 0).all()
        total = sample.pseudo_maps.data.sum(dim=0)
        torch.testing.assert_close(total, torch.ones_like(total))
        assert sample.image_scores.shape == (3,)
        assert sample.bg_setting == 1.0
    assert torch.equal(free[0].pred_sem_seg.data, out[0].pred_sem_seg.data)
    assert torch.equal(free[0].pred_sem_seg.data[0], free[0].localization_maps.data.argmax(0))


def test_without_neck(build, backbone_cfg, batch) -> None:
    model = build(neck=None, head=dict(type='PatchClassHead', in_channels=8, num_classes=4))
    assert sum(model.loss(*batch).values()).isfinite()


def test_unknown_teacher(build) -> None:
    with pytest.raises(ValueError, match="'eval' or 'train_detach', got 'ema'"):
        build(teacher='ema')


@pytest.mark.parametrize('teacher', ['eval', 'train_detach'])
@pytest.mark.parametrize('drop_rate', [0.0, 0.1])
def test_every_parameter_learns_under_bfloat16(build, batch, teacher: str, drop_rate: float) -> None:
    model = build(teacher=teacher, drop_rate=drop_rate)
    wrapper = BFloat16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        losses = model.loss(*batch)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if 'bias_hh' not in name:
            assert parameter.grad.abs().sum() > 0, name


def test_descent_lowers_the_loss(build, batch) -> None:
    model = build(dropout=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    history = []
    for _ in range(15):
        loss = sum(model.loss(*batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.9 * history[0]


def test_background_label_of_some_samples_only(build, make_samples) -> None:
    samples = make_samples([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    samples[1].background_label = torch.tensor(0.0)
    with pytest.raises(
        ValueError, match='1 of 3 samples of the batch have a background_label; use ImageLabelsFromMask'
    ):
        build().patch_labels(samples)


def test_equivariance_needs_a_second_view(build, batch) -> None:
    inputs, samples = batch
    for one in (inputs['view_1'], dict(view_1=inputs['view_1'])):
        with pytest.raises(ValueError, match='loss_et needs two views of every image; set second_view=True'):
            build().loss(one, samples)


class Spreading(LabelStep):
    """Decides for the last class of those that the labels allow, whatever the maps say."""

    needs_images = True
    decides = True

    def __call__(self, state: LabelState) -> LabelState:
        assert state.images.shape == (1, 3, *state.size)
        allowed = torch.ones_like(state.maps[:, :, 0, 0]) if state.present is None else state.present.to(state.maps)
        maps = (allowed * torch.arange(1, allowed.shape[1] + 1))[..., None, None].expand(-1, -1, *state.size)
        return replace(state, maps=maps, mask=maps.argmax(dim=1))


@pytest.fixture
def spreading(build):
    model = build()
    model.pseudo_labeler = PseudoLabeler([Spreading()])
    return model


def test_a_pseudo_labeler_gets_image_and_labels(spreading, make_samples, tmp_path) -> None:
    path = str(tmp_path / 'image.png')
    mmcv.imwrite(np.zeros((16, 16, 3), dtype=np.uint8), path)
    with_labels, without = make_samples([[1, 0, 0]]), make_samples(None, count=1)
    for sample in (*with_labels, *without):
        sample.set_metainfo(dict(img_path=path))
    images = torch.randn(1, 3, 16, 16)
    (sample,) = spreading.predict(images, with_labels)
    assert (sample.pseudo_maps.data[2:] == 0).all()
    assert (sample.pseudo_maps.data[:2] > 0).all()
    assert (sample.pseudo_mask.data == 1).all()
    (free,) = spreading.predict(images, without)
    assert (free.pseudo_mask.data == 0).all(), 'no class has a score above the threshold'
    spreading.test_cfg['label_threshold'] = -1.0
    (free,) = spreading.predict(images, without)
    assert (free.pseudo_mask.data == 3).all()


def test_a_pseudo_labeler_needs_the_image_file(spreading, make_samples) -> None:
    samples = make_samples(None, count=1)
    samples[0].set_metainfo(dict(img_path=None))  # what mmseg sets for an image given as an array
    with pytest.raises(ValueError, match=r'needs the image file; give images by path'):
        spreading.predict(torch.randn(1, 3, 16, 16), samples)


def test_a_moved_option_is_named(build) -> None:
    with pytest.raises(ValueError, match=r'test_cfg\.refiner is not an option of ViTPCM; refine by a Refine step'):
        build(test_cfg=dict(refiner=dict(type='DenseCRF')))
