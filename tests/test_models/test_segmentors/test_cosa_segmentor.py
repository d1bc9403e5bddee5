"""Losses of CoSA against a plain computation over all classes at full size, and what its switches change."""

from __future__ import annotations

import math

import pytest
import torch
from cosa_cases import LABELS, SIZE, build_cosa, cosa_config, make_samples, make_views, total_loss
from cosa_plain import half_pixel, plain_losses

FOUR = ((1, 0, 0), (0, 1, 1), (0, 0, 0), (1, 1, 1))
RAW = ('c2s', 'energy', 's2c')
THRESHOLDS = ('threshold_high', 'threshold_low', 'aux_threshold_high', 'aux_threshold_low')


def present(labels) -> list[int]:
    return [sum(row) for row in labels]


SWITCHES = {
    'default': (dict(), ()),
    'aux_cam2seg': (dict(aux_cam2seg=0.0), ('c2s',)),
    'only aux_cam2seg': (dict(aux_cam2seg=1.0), ('c2s',)),
    'aux_seg2cam': (dict(aux_seg2cam=0.5), ('s2c',)),
    'mix_cams': (dict(mix_cams=True), ('c2s', 'energy')),
    'aux_scales': (dict(aux_scales='sum'), ('c2s',)),
    'temperature': (dict(temperature=20.0), ('s2c',)),
    'mask_after_softmax': (dict(mask_after_softmax=True), ('s2c',)),
    'mask_after_softmax, soft': (dict(mask_after_softmax=True, temperature=20.0), ('s2c',)),
    'down_scale': (dict(down_scale=0), ('c2s', 'energy')),
    'scales': (dict(scales=(1.0, 0.75)), RAW),
    'max_batch': (dict(max_batch=1), ()),
    'threshold': (dict(threshold=dict(type='FixedThreshold', high=0.4, low=0.1)), ('c2s', 'energy')),
    'aux_threshold': (dict(aux_threshold=dict(type='FixedThreshold', high=0.8, low=0.1)), ('c2s',)),
}


@pytest.mark.parametrize('switch', SWITCHES)
def test_losses_equal_the_plain_ones_and_switches_change_what_they_should(switch: str) -> None:
    changes, moved = SWITCHES[switch]
    views = make_views(4)
    model = build_cosa(**changes)
    expected = plain_losses(model, views, FOUR)
    for slots in (present(FOUR), None):
        metainfo = {} if slots is None else dict(num_present=slots)
        losses = model.loss(views, make_samples(FOUR, **metainfo))
        for name, value in expected.items():
            torch.testing.assert_close(losses[name], value.detach(), rtol=2e-4, atol=1e-6)
    default = plain_losses(build_cosa(), views, FOUR)
    assert {name for name in RAW if abs(expected[name] / default[name] - 1) > 1e-5} == set(moved)


@pytest.mark.parametrize('switch', ['default', 'aux_cam2seg', 'aux_seg2cam', 'mask_after_softmax, soft'])
def test_gradients_equal_the_plain_ones(switch: str) -> None:
    model, views = build_cosa(**SWITCHES[switch][0]), make_views(4)
    weights = dict(model.online.named_parameters())
    plain = plain_losses(model, views, FOUR)
    (0.1 * plain['c2s'] + 0.05 * plain['s2c'] + 0.05 * plain['energy']).backward()
    expected = {name: p.grad.clone() for name, p in weights.items() if p.grad is not None}
    model.zero_grad()
    losses = model.loss(views, make_samples(FOUR, num_present=present(FOUR)))
    sum(losses[f'loss_{name}'] for name in RAW).backward()
    for name, value in expected.items():
        found = torch.zeros_like(value) if weights[name].grad is None else weights[name].grad
        torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-4 * float(value.abs().max() + 1e-3))


@pytest.mark.parametrize('labels', [((0, 1, 0),), ((0, 0, 0),), ((0, 0, 0), (0, 0, 0)), ((1, 1, 1), (0, 0, 1))])
def test_few_classes_in_as_few_slots_as_they_need(labels) -> None:
    model, views = build_cosa(), make_views(len(labels))
    expected = plain_losses(model, views, labels)
    found = [model.loss(views, make_samples(labels, **m)) for m in ({}, dict(num_present=present(labels)))]
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-5, atol=1e-7)
    for name, value in expected.items():
        torch.testing.assert_close(found[0][name], value.detach(), rtol=2e-4, atol=1e-6)
    total_loss(found[1]).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_names_gradients_and_weights() -> None:
    model = build_cosa()
    losses = model.loss(make_views(), make_samples(num_present=[1, 2]))
    weighted = {'loss_cls', 'loss_cls_aux', 'loss_c2s', 'loss_s2c', 'loss_energy'}
    assert losses.keys() == weighted | {*RAW, *THRESHOLDS}
    assert all(value.shape == () and value.isfinite() for value in losses.values())
    for name, weight in dict(c2s=0.1, s2c=0.05, energy=0.05).items():
        torch.testing.assert_close(losses[f'loss_{name}'], weight * losses[name])
        assert not losses[name].requires_grad
    torch.testing.assert_close(losses['threshold_high'], torch.tensor(0.7))
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(total, sum(losses[name] for name in weighted))
    total.backward()
    without = [n for n, p in model.online.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == ['backbone.pos_embed']
    assert all(p.grad is None and not p.requires_grad for p in model.assignment.parameters())


def reached_by(model, name: str) -> set[str]:
    """Parts of the online network that one loss moves."""
    model.zero_grad()
    model.loss(make_views(), make_samples())[f'loss_{name}'].backward()
    return {n.split('.')[0] for n, p in model.online.named_parameters() if p.grad is not None and p.grad.any()}


def test_which_loss_reaches_what() -> None:
    model = build_cosa(loss_csc=dict(type='SeparationLoss', epsilon=20.0))
    assert reached_by(model, 'cls') == {'backbone', 'head'}
    assert reached_by(model, 'cls_aux') == {'backbone', 'aux_head'}
    assert reached_by(model, 'c2s') == reached_by(model, 'energy') == {'backbone', 'decode_head'}
    assert reached_by(model, 's2c') == {'backbone', 'head'}
    assert reached_by(model, 'csc') == {'backbone'}
    assert reached_by(build_cosa(aux_seg2cam=0.5), 's2c') == {'backbone', 'head', 'aux_head'}


@pytest.mark.parametrize('off', ['c2s', 's2c', 'energy'])
def test_a_loss_of_none_is_left_out_and_changes_no_other(off: str) -> None:
    whole = build_cosa().loss(make_views(), make_samples())
    found = build_cosa(**{f'loss_{off}': None}).loss(make_views(), make_samples())
    assert whole.keys() - found.keys() == {off, f'loss_{off}'}
    for name, value in found.items():
        torch.testing.assert_close(value, whole[name])


def test_a_weight_of_zero_logs_no_nan() -> None:
    found = build_cosa(loss_s2c=dict(type='SegToCAMLoss', loss_weight=0.0)).loss(make_views(), make_samples())
    assert found['loss_s2c'] == 0
    assert all(value.isfinite() for value in found.values())


@pytest.mark.parametrize('version', ['v2', 'v3'])
def test_versions_of_the_map_loss(version: str) -> None:
    config = dict(type='SegToCAMLoss', version=version, loss_weight=0.05)
    model = build_cosa(loss_s2c=config)
    found = [model.loss(make_views(), make_samples(**m)) for m in ({}, dict(num_present=[1, 2]))]
    torch.testing.assert_close(found[0]['s2c'], found[1]['s2c'])
    whole = build_cosa().loss(make_views(), make_samples())
    assert abs(found[0]['s2c'] - whole['s2c']) > 1e-3
    torch.testing.assert_close(found[0]['c2s'], whole['c2s'])
    found[0]['loss_s2c'].backward()
    assert model.online.head.classifier.weight.grad.any()


def test_techniques_of_the_paper_alone() -> None:
    whole = build_cosa().loss(make_views(), make_samples())
    weighted = build_cosa(reliability=dict(type='ReliabilityWeights')).loss(make_views(), make_samples())
    assert abs(weighted['c2s'] - whole['c2s']) > 1e-3
    for name in ('energy', 's2c'):
        torch.testing.assert_close(weighted[name], whole[name])
    with_csc = build_cosa(loss_csc=dict(type='SeparationLoss', epsilon=20.0)).loss(make_views(), make_samples())
    assert with_csc.keys() - whole.keys() == {'csc', 'loss_csc'}
    assert with_csc['csc'] > 0
    torch.testing.assert_close(with_csc['c2s'], whole['c2s'])


def test_refined_masks_follow_the_colours_of_the_weak_view() -> None:
    model = build_cosa(refiner=dict(type='PAR', iterations=3))
    seen = []
    refine = model.refiner.__class__.__call__
    model.refiner.__class__.__call__, restore = (
        lambda self, images, *args, **kw: seen.append(images) or refine(self, images, *args, **kw),
        refine,
    )
    try:
        views = make_views()
        losses = model.loss(views, make_samples(num_present=[1, 2]))
    finally:
        model.refiner.__class__.__call__ = restore
    assert len(seen) == 4
    shown = half_pixel((views['view_1'] * 60 + 120).clamp(0, 255).floor(), (SIZE // 2, SIZE // 2))
    torch.testing.assert_close(seen[0].float(), shown, atol=1.1, rtol=0)
    plain = build_cosa().loss(views, make_samples())
    assert abs(losses['c2s'] - plain['c2s']) > 1e-4
    torch.testing.assert_close(losses['s2c'], plain['s2c'])


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_assignment_network_in_low_precision(dtype: str) -> None:
    model = build_cosa(assignment_dtype=dtype)
    types = set()
    model.assignment.head.register_forward_hook(lambda *args: types.add(args[2].dtype))
    found = model.loss(make_views(), make_samples(num_present=[1, 2]))
    assert types == {getattr(torch, dtype)}
    whole = build_cosa().loss(make_views(), make_samples())
    torch.testing.assert_close(found['loss_cls'], whole['loss_cls'])
    assert 0 < abs(found['c2s'] - whole['c2s']) < 0.1 * whole['c2s']
    total_loss(found).backward()


def test_mixed_precision_is_close_to_single() -> None:
    whole = build_cosa(seed=3).loss(make_views(), make_samples())
    model = build_cosa(seed=3, loss_csc=dict(type='SeparationLoss', epsilon=20.0))
    with torch.autocast('cpu', torch.bfloat16):
        found = model.loss(make_views(), make_samples(num_present=[1, 2]))
    assert all(value.isfinite() for value in found.values())
    for name, value in whole.items():
        torch.testing.assert_close(found[name].float(), value, rtol=0.1, atol=0.02)
    total_loss(found).backward()
    assert all(p.grad.isfinite().all() for p in model.online.parameters() if p.grad is not None)


def test_nothing_outside_the_box_supervises_the_segmentation() -> None:
    boxes = [(4, 28, 0, 16), (0, 32, 8, 32)]
    model, views = build_cosa(loss_energy=None), make_views()
    samples = make_samples(img_box=boxes)
    expected = plain_losses(build_cosa(), views, LABELS, boxes)
    torch.testing.assert_close(model.loss(views, samples)['c2s'], expected['c2s'].detach(), rtol=2e-4, atol=1e-6)
    torch.testing.assert_close(
        build_cosa().loss(views, samples)['energy'], expected['energy'].detach(), rtol=2e-4, atol=1e-6
    )
    masks = []
    make = model.pseudo_mask
    model.pseudo_mask = lambda *args: masks.append(make(*args)) or masks[-1]
    model.loss(views, samples)
    for mask in masks:
        for one, (top, bottom, left, right) in zip(mask, boxes):
            assert (one[top:bottom, left:right] != 255).any()
            one[top:bottom, left:right] = 255
            assert (one == 255).all()
    empty = model.loss(views, make_samples(img_box=[(0, 0, 0, 0)] * 2))
    assert empty['c2s'] == 0
    total_loss(empty).backward()
    assert not model.online.decode_head.conv_seg.weight.grad.any()


def test_mistakes_are_one_clear_line() -> None:
    for changes, message in (
        (dict(warmup='none'), "warmup of CoSA has to be one of .*'none'"),
        (dict(aux_scales='all'), 'aux_scales of CoSA'),
        (dict(assignment_dtype='int8'), 'assignment_dtype of CoSA'),
        (dict(test_cfg=dict(stream='teacher')), 'test_cfg.stream of CoSA'),
        (dict(test_cfg=dict(cam_head='cam')), 'test_cfg.cam_head of CoSA'),
        (dict(momentum=1.5), 'momentum of CoSA has to lie between 0 and 1, got 1.5'),
        (dict(aux_cam2seg=-1), 'aux_cam2seg of CoSA'),
        (dict(temperature=0.0), 'temperature of CoSA has to be positive, got 0.0'),
        (
            dict(head=dict(type='CAMHead', in_channels=8, num_classes=21)),
            'num_classes, got head 21, aux_head 4, decode_head 4',
        ),
    ):
        with pytest.raises(ValueError, match=message):
            build_cosa(**changes)
    model = build_cosa()
    for inputs in (make_views()['view_1'], dict(view_1=make_views()['view_1'])):
        with pytest.raises(ValueError, match='needs a weak and a strong view of every image; put OneOfStrongAug'):
            model.loss(inputs, make_samples())
    with pytest.raises(ValueError, match='carries no image_labels'):
        model.loss(make_views(), make_samples(None, count=2))
    with pytest.raises(ValueError, match='expected 3 image labels'):
        model.loss(make_views(), make_samples([[1, 0]] * 2))


def test_first_iterations_of_a_fresh_model_are_finite() -> None:
    """Constant maps and equal images, as of a network that has learnt nothing."""
    model = build_cosa()
    for weight in model.parameters():
        weight.data.zero_()
    views = {name: torch.zeros(2, 3, SIZE, SIZE) for name in ('view_1', 'view_2')}
    losses = model.loss(views, make_samples(num_present=[1, 2]))
    assert all(math.isfinite(value) for value in losses.values())
    total_loss(losses).backward()
    assert all(p.grad.isfinite().all() for p in model.online.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(loss_cls=None), 'loss_cls of CoSA cannot be switched off'),
        (dict(scales=()), 'scales of CoSA has to be positive numbers'),
        (dict(loss_c2s=dict(type='CrossEntropyLoss')), 'loss_c2s of CoSA has to be a BalancedCELoss'),
        (dict(data_preprocessor=dict(type='WeakSegDataPreProcessor')), 'set mean and std of data_preprocessor'),
        (dict(test_cfg=dict(steam='online')), r'model\.test_cfg\.steam is not an option of CoSA.*stream'),
        (dict(test_cfg=dict(views=dict(scales=0.5))), r'model\.test_cfg\.views needs positive scales'),
    ],
    ids=str,
)
def test_mistakes_show_when_the_model_is_built(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_cosa(**changes)


def test_one_feature_map_is_not_enough() -> None:
    backbone = cosa_config()['backbone'] | dict(out_indices=[1])
    with pytest.raises(ValueError, match=r'backbone\.out_indices of CoSA needs two blocks'):
        build_cosa(backbone=backbone)


@pytest.mark.parametrize('other_geometry', ['size', 'record'])
def test_views_of_another_geometry_are_refused(other_geometry: str) -> None:
    model, views, samples = build_cosa(), make_views(), make_samples()
    if other_geometry == 'size':
        views['view_2'] = views['view_2'][..., :-4]
    else:
        samples = make_samples(record_2=[[0] * 9] * len(LABELS))
    with pytest.raises(ValueError, match=r'both views in one geometry.*OneOfStrongAug.*in the place of TwoViews'):
        model.loss(views, samples)


def test_a_checkpoint_of_the_whole_model_is_not_copied_over(tmp_path) -> None:
    trained = build_cosa(seed=3, independent_init=True)
    torch.save(dict(state_dict=trained.state_dict()), tmp_path / 'cosa.pth')
    model = build_cosa(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'cosa.pth')))
    model.init_weights()
    for name, value in trained.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_patches_of_the_contrast_have_the_label_of_their_centre() -> None:
    """The features of a patch say what it shows, not what its corner shows."""
    model = build_cosa(loss_csc=dict(type='SeparationLoss'))
    seen = []
    model.loss_csc.forward = lambda features, mask, perplexity: seen.append(mask) or features.sum() * 0
    mask = torch.zeros(1, 8, 8, dtype=torch.long)
    mask[:, 1:4, 1:4] = 2
    mask[:, 4:, 4:] = 1
    model.separation(torch.zeros(1, 3, 2, 2), mask, torch.rand(1, 2, 8, 8), (torch.tensor(0.7), torch.tensor(0.25)))
    assert seen[0].tolist() == [[[2, 0], [0, 1]]]
