"""APC: losses, warm-up, pseudo masks of a batch, prediction and what its parts learn from."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch

from mmwsss.engine import BFloat16OptimWrapper
from mmwsss.models.losses import balanced_cross_entropy
from mmwsss.models.losses.patch_contrast import patch_contrast_loss
from mmwsss.models.segmentors import APC, ViTPCM
from mmwsss.ops import RESIZERS
from mmwsss.pseudo_labels import maps_to_mask, to_distribution
from mmwsss.registry import MODELS

LABELS = [[1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0]]
PRESENT = torch.tensor([[1, *row] for row in LABELS], dtype=torch.float32)
STEPS = [
    dict(type='MaskAbsent'),
    dict(type='Distribution'),
    dict(type='Resize', rule='half_pixel'),
    dict(type='Decide', bg_setting=1.0),
    dict(type='IgnoreOutsideBox'),
]
DECODER = dict(
    decode_head=dict(type='LargeFOVHead', in_channels=8, channels=6, num_classes=4, dilation=1),
    loss_seg=dict(type='BalancedCELoss', loss_weight=0.1),
    online_labeler=dict(steps=STEPS),
)
CONTRAST = dict(type='PatchContrastLoss', high=0.3, low=0.2, loss_weight=0.1)


@pytest.fixture
def build(backbone_cfg):
    def make(decoder: bool = True, drop_rate: float = 0.0, dropout: float = 0.0, **settings) -> APC:
        config = dict(
            type='APC',
            data_preprocessor=dict(type='WeakSegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3),
            backbone={**backbone_cfg, 'drop_rate': drop_rate},
            neck=dict(type='HVBiLSTM', in_channels=8, hidden=4, dropout=dropout),
            head=dict(
                type='PatchClassHead',
                in_channels=16,
                num_classes=4,
                dropout=dropout,
                pooling=dict(type='AdaptiveKPooling', kmin=2, kmax=6),
            ),
            loss_mce=dict(type='MultiLabelClsLoss', eps_in_log=False),
            loss_pce=CONTRAST,
            **(DECODER if decoder else {}),
        )
        model = MODELS.build({**config, **settings})
        torch.manual_seed(1)
        torch.nn.init.normal_(model.head.classifier.weight, std=2.0)  # wide enough for confident patches
        return model.train()

    return make


@pytest.fixture
def batch(make_samples):
    return torch.randn(4, 3, 16, 16), make_samples(LABELS)


def moved_by(model: APC, loss: torch.Tensor) -> set[str]:
    """Parts of the network that take a gradient other than 0 from a loss."""
    model.zero_grad()
    loss.backward()
    return {name.split('.')[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


@pytest.mark.parametrize('decoder', [True, False])
@pytest.mark.parametrize('contrast', [True, False])
def test_losses_are_those_of_the_formula(build, batch, decoder: bool, contrast: bool) -> None:
    images, samples = batch
    model = build(decoder, loss_pce=CONTRAST if contrast else None)
    losses = model.loss(images, samples)
    expected = {'loss_mce'} | ({'loss_pce'} if contrast else set()) | ({'loss_seg'} if decoder else set())
    assert losses.keys() == expected
    tokens = model.backbone(images)[-1]
    features = model.neck(tokens)
    maps = model.head.maps(features)
    torch.testing.assert_close(losses['loss_mce'], model.loss_mce(model.head.pooling(maps), PRESENT))
    if contrast:
        plain = 0.1 * patch_contrast_loss(features, maps, PRESENT, 0.3, 0.2)
        assert plain > 0
        torch.testing.assert_close(losses['loss_pce'], plain)
    if decoder:
        present = to_distribution(maps * PRESENT[:, :, None, None])
        mask = maps_to_mask(RESIZERS['half_pixel'](present, (16, 16)), 1.0, has_background=True)
        logits = RESIZERS['half_pixel'](model.decode_head([tokens]), (16, 16))
        torch.testing.assert_close(losses['loss_seg'], 0.1 * balanced_cross_entropy(logits, mask, 0.5))


@pytest.mark.parametrize('embedding', ['neck', 'backbone'])
def test_what_the_contrast_compares(build, batch, embedding: str) -> None:
    images, samples = batch
    model = build(decoder=False, embedding=embedding)
    tokens = model.backbone(images)[-1]
    features = model.neck(tokens)
    compared = dict(neck=features, backbone=tokens)[embedding]
    loss = model.loss(images, samples)['loss_pce']
    torch.testing.assert_close(loss, 0.1 * patch_contrast_loss(compared, model.head.maps(features), PRESENT, 0.3, 0.2))
    assert moved_by(model, loss) == ({'backbone', 'neck'} if embedding == 'neck' else {'backbone'})


def test_without_confident_patches_the_contrast_is_zero(build, batch) -> None:
    model = build(decoder=False, loss_pce=dict(type='PatchContrastLoss', high=1.0))
    loss = model.loss(*batch)['loss_pce']
    assert loss == 0
    assert moved_by(model, loss) == set()
    assert all(p.grad is not None for p in model.neck.parameters() if p.requires_grad)


@pytest.mark.parametrize('decoder', [True, False])
def test_warm_up(build, batch, decoder: bool) -> None:
    model = build(decoder, warmup_iters=3)
    for iteration in (0, 2):
        model.iteration = iteration
        with mock.patch.object(model, 'teacher_maps', wraps=model.teacher_maps) as teacher:
            losses = model.loss(*batch)
        assert teacher.call_count == 0
        assert losses.keys() == ({'loss_mce', 'loss_idle'} if decoder else {'loss_mce'})
        total, _ = model.parse_losses(losses)
        assert total.item() == losses['loss_mce'].item()
        assert moved_by(model, total) == {'backbone', 'neck', 'head'}
        if decoder:
            for name, weight in model.decode_head.named_parameters():
                assert torch.equal(weight.grad, torch.zeros_like(weight)), name
    model.iteration = 3
    after = model.loss(*batch)
    assert after.keys() == {'loss_mce', 'loss_pce'} | ({'loss_seg'} if decoder else set())
    torch.testing.assert_close(after['loss_mce'], losses['loss_mce'])


def test_equivariance_and_penalty_do_not_wait(build, make_samples) -> None:
    samples = make_samples(LABELS, record_1=np.zeros(9, np.float32), record_2=np.zeros(9, np.float32))
    views = dict(view_1=torch.randn(4, 3, 16, 16), view_2=torch.randn(4, 3, 16, 16))
    model = build(loss_et=dict(type='EquivarianceLoss'), loss_reg=dict(type='ClassifierL2'), warmup_iters=1)
    model.iteration = 0
    patch = {'loss_mce', 'loss_et', 'loss_reg'}
    assert model.loss(views, samples).keys() == patch | {'loss_idle'}
    model.iteration = 1
    with mock.patch.object(model, 'teacher_maps', wraps=model.teacher_maps) as teacher:
        losses = model.loss(views, samples)
    assert losses.keys() == patch | {'loss_pce', 'loss_seg'}
    assert teacher.call_count == 1, 'one forward without dropout serves both'
    with pytest.raises(ValueError, match='loss_et needs two views'):
        model.loss(views['view_1'], samples)


@pytest.mark.parametrize('decoder', [True, False])
def test_only_a_warm_up_needs_the_hook(build, batch, decoder: bool) -> None:
    assert build(decoder).loss(*batch)['loss_mce'].isfinite()
    with pytest.raises(RuntimeError, match=r'needs dict\(type="IterationHook"\) in custom_hooks'):
        build(decoder, warmup_iters=1).loss(*batch)


def test_the_decoder_learns_from_the_mask_and_not_through_it(build, batch) -> None:
    model = build()
    assert moved_by(model, model.loss(*batch)['loss_seg']) == {'backbone', 'decode_head'}
    assert all(p.grad is None for part in (model.neck, model.head) for p in part.parameters())
    assert all(p.grad.any() for p in model.decode_head.parameters())


def test_mask_of_a_batch_has_present_classes_inside_the_boxes(build, make_samples) -> None:
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 1], [0, 0, 0]])
    samples = make_samples(labels.tolist())
    samples[0].set_metainfo(dict(img_box=(2, 10, 4, 16)))
    samples[2].set_metainfo(dict(img_box=(0, 16, 0, 5)))
    model = build()
    mask = model.online_mask(torch.rand(3, 4, 4, 4).softmax(dim=1), torch.randn(3, 3, 16, 16), samples)
    assert mask.shape == (3, 16, 16)
    assert mask.dtype == torch.int64
    assert not mask.requires_grad
    inside = torch.zeros(3, 16, 16, dtype=torch.bool)
    inside[0, 2:10, 4:], inside[1], inside[2, :, :5] = True, True, True
    assert torch.equal(mask == 255, ~inside)
    for found, allowed in zip(mask, ({0, 1, 255}, {0, 2, 3}, {0, 255})):
        assert set(found.unique().tolist()) == allowed


def test_steps_that_read_colours_get_them(build, batch) -> None:
    images, samples = batch
    refined = [*STEPS[:3], dict(type='Refine', refiner=dict(type='PAR')), *STEPS[3:]]
    model = build(online_labeler=dict(steps=refined))
    with mock.patch.object(type(model.online_labeler), '__call__', wraps=model.online_labeler.__call__) as labeler:
        losses = model.loss(images, samples)
    state = labeler.call_args.args[0]
    expected = (images * 60 + 120).round().clamp(0, 255)
    torch.testing.assert_close(state.images.float(), expected, atol=1.0, rtol=0)
    assert losses['loss_seg'].isfinite()


@pytest.mark.parametrize('teacher', ['eval', 'train_detach'])
def test_masks_follow_the_teacher(build, batch, teacher: str) -> None:
    images, samples = batch
    model = build(teacher=teacher, dropout=0.5)
    with mock.patch.object(model, 'online_mask', wraps=model.online_mask) as online_mask:
        model.loss(images, samples)
    maps = online_mask.call_args.args[0]
    assert not maps.requires_grad
    model.eval()
    assert torch.allclose(maps, model.maps(images), atol=1e-6) == (teacher == 'eval')


def test_without_its_own_parts_it_is_vitpcm(build, batch, backbone_cfg) -> None:
    images, samples = batch
    loss_mce, pooling = dict(type='MultiLabelClsLoss'), dict(type='GlobalMaxPooling')
    head = dict(type='PatchClassHead', in_channels=16, num_classes=4, dropout=0.0, pooling=pooling)
    model = build(decoder=False, loss_pce=None, loss_mce=loss_mce, head=head)
    neck = dict(type='HVBiLSTM', in_channels=8, hidden=4, dropout=0.0)
    plain = MODELS.build(dict(type='ViTPCM', backbone=backbone_cfg, neck=neck, head=head, loss_mce=loss_mce)).train()
    assert type(plain) is ViTPCM
    plain.load_state_dict(model.state_dict())
    found, expected = model.loss(images, samples), plain.loss(images, samples)
    assert found.keys() == expected.keys() == {'loss_mce'}
    assert torch.equal(found['loss_mce'], expected['loss_mce'])
    assert torch.equal(model(images, mode='tensor'), plain(images, mode='tensor'))
    results = [network.eval().predict(images, samples)[0] for network in (model, plain)]
    assert torch.equal(*(result.pred_sem_seg.data for result in results))
    assert torch.equal(*(result.pseudo_mask.data for result in results))


@pytest.mark.parametrize('decoder', [True, False])
def test_label_free_masks_come_from_the_decoder_where_there_is_one(build, make_samples, decoder: bool) -> None:
    images = torch.randn(2, 3, 16, 16)
    model = build(decoder).eval()
    assert model.test_cfg['pseudo_source'] == ('segmentation' if decoder else 'maps')
    samples = model.predict(images, make_samples([[1, 0, 1], [0, 1, 0]]))
    free = model.predict(images, make_samples(None, count=2))
    tokens = model.backbone(images)[-1]
    maps = model.head.maps(model.neck(tokens))
    output = model.decode_head([tokens]).detach() if decoder else maps
    expected = RESIZERS[model.test_cfg['upsample']](output, (16, 16)).argmax(dim=1)
    assert torch.equal(model(images, mode='tensor').argmax(dim=1), output.argmax(dim=1))
    for i, present in enumerate(({0, 1, 3}, {0, 2})):
        assert torch.equal(samples[i].pred_sem_seg.data[0], expected[i])
        assert torch.equal(free[i].pred_sem_seg.data[0], expected[i])
        assert set(samples[i].pseudo_mask.data.unique().tolist()) <= present
        assert samples[i].used_image_labels
        assert not free[i].used_image_labels
        torch.testing.assert_close(samples[i].image_scores, model.head.pooling(maps)[i, 1:])


@pytest.mark.parametrize('source', ['maps', 'segmentation'])
def test_pseudo_masks_follow_their_source_alone(build, make_samples, source: str) -> None:
    images = torch.randn(2, 3, 16, 16)
    model = build(test_cfg=dict(pseudo_source=source)).eval()

    def masks() -> torch.Tensor:
        samples = model.predict(images, make_samples([[1, 0, 1], [0, 1, 1]]))
        return torch.stack([sample.pseudo_mask.data for sample in samples])

    weights = dict(maps=model.head.classifier.weight.data, segmentation=model.decode_head.conv_seg.weight.data)
    first = masks()
    weights.pop(source).neg_()
    assert not torch.equal(masks(), first)
    now = masks()
    weights.popitem()[1].neg_()
    assert torch.equal(masks(), now)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(embedding='head'), r"embedding of APC has to be one of \('neck', 'backbone'\), got 'head'"),
        (dict(loss_seg=None), r'decode_head of APC needs loss_seg and online_labeler'),
        (dict(online_labeler=None), r'decode_head of APC needs loss_seg and online_labeler'),
        (dict(data_preprocessor=None), r'set mean and std of data_preprocessor'),
        (dict(decode_head={**DECODER['decode_head'], 'num_classes': 5}), r'got head 4, decode_head 5'),
        (
            dict(decode_head=None, test_cfg=dict(pseudo_source='segmentation')),
            r"pseudo_source has to be one of \('maps'",
        ),
        (dict(test_cfg=dict(refiner=dict())), r'test_cfg\.refiner is not an option of APC'),
        (dict(online_labeler=dict(steps=STEPS[:3])), r'no step decides a mask'),
    ],
)
def test_settings_that_do_not_fit(build, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**settings)


@pytest.mark.parametrize('decoder', [True, False])
@pytest.mark.parametrize('drop_rate', [0.0, 0.1])
def test_every_parameter_learns_under_bfloat16(build, batch, decoder: bool, drop_rate: float) -> None:
    model = build(decoder, drop_rate=drop_rate, dropout=0.1)
    wrapper = BFloat16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        losses = model.loss(*batch)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if 'bias_hh' not in name:
            assert parameter.grad.any(), name
