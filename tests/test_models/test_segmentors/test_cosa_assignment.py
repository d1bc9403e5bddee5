"""The assignment network of CoSA: warm-up without it, its moving average, its start and its state."""

from __future__ import annotations

import pytest
import torch
from cosa_cases import SEARCHED, build_cosa, make_samples, make_views, total_loss, train_steps


@pytest.mark.parametrize('learns', [False, True])
def test_warm_up_skipped_or_multiplied_by_zero(learns: bool) -> None:
    changes = dict(warmup_iters=1, independent_init=True)
    if learns:
        changes.update(threshold=SEARCHED, aux_threshold=dict(SEARCHED, floor=0.1))
    models, histories = {}, {}
    for warmup in ('skip', 'zero'):
        models[warmup] = build_cosa(**changes, warmup=warmup)
        histories[warmup] = train_steps(models[warmup], 4)
    for index, losses in enumerate(histories['skip']):
        assert ('loss_c2s' in losses) == (index > 1), '<=: iterations 0 and 1 are warm-up'
        assert ('loss_idle' in losses) == (index <= 1)
        assert ('threshold_high' in losses) == (index > 1 or learns)
    for losses in histories['zero'][:2]:
        assert losses['loss_c2s'] == losses['loss_s2c'] == losses['loss_energy'] == 0
        assert losses['c2s'] > 0
    assert histories['zero'][2]['loss_c2s'] > 0
    assert histories['zero'][3] == histories['skip'][3]
    first, second = (models[warmup].state_dict() for warmup in ('skip', 'zero'))
    assert any('threshold.queue' in name for name in first) == learns
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert not torch.equal(first['online.decode_head.conv6.weight'], first['assignment.decode_head.conv6.weight'])


@pytest.mark.parametrize('warmup', ['skip', 'zero'])
def test_zero_gradients_at_the_segmentation_head_in_the_warm_up(warmup: str) -> None:
    model = build_cosa(warmup_iters=0, warmup=warmup)
    total_loss(model.loss(make_views(), make_samples())).backward()
    for name, weight in model.online.named_parameters():
        if name.startswith('decode_head'):
            assert weight.grad is not None, name
            assert not weight.grad.any(), name
        elif name != 'backbone.pos_embed':
            assert weight.grad.any(), name


def test_warm_up_leaves_the_assignment_network_alone(monkeypatch) -> None:
    model = build_cosa(warmup_iters=0)
    monkeypatch.setattr(model, 'assign', None)
    assert model.loss(make_views(), make_samples()).keys() == {'loss_cls', 'loss_cls_aux', 'loss_idle'}


def test_without_the_hook() -> None:
    model = build_cosa()
    model.iteration = None
    with pytest.raises(RuntimeError, match=r'needs dict.*AssignmentHook.* in custom_hooks'):
        model.loss(make_views(), make_samples())


def test_moving_average() -> None:
    model = build_cosa(momentum=0.75)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.update_assignment()
    after = model.state_dict()
    for name in (name.removeprefix('online.') for name in before if name.startswith('online.')):
        assert torch.equal(after[f'online.{name}'], before[f'online.{name}'])
        expected = 0.75 * before[f'assignment.{name}'] + 0.25 * before[f'online.{name}']
        torch.testing.assert_close(after[f'assignment.{name}'], expected, rtol=1e-6, atol=1e-7)
    assert not torch.equal(after['assignment.head.classifier.weight'], before['assignment.head.classifier.weight'])


@pytest.mark.parametrize('independent', [True, False])
def test_start_of_the_assignment_network(independent: bool) -> None:
    model = build_cosa(independent_init=independent)
    for _ in range(2):
        pairs = [(value, model.assignment.state_dict()[name]) for name, value in model.online.state_dict().items()]
        assert all(torch.equal(*pair) for pair in pairs) != independent
        assert all(one.data_ptr() != other.data_ptr() for one, other in pairs)
        model.init_weights()


def test_mode_of_the_assignment_network() -> None:
    for evaluated in (True, False):
        model = build_cosa(assignment_eval=evaluated)
        for _ in range(2):
            assert model.online.training
            assert {module.training for module in model.assignment.modules()} == {not evaluated}
            model.eval()
            assert not any(module.training for module in model.modules())
            model.train()


def test_state_dict_round_trip() -> None:
    searched = dict(threshold=SEARCHED, aux_threshold=SEARCHED, warmup_iters=0)
    model = build_cosa(**searched)
    train_steps(model, 2)
    state = model.state_dict()
    stored = {'queue', 'pointer', 'filled', 'high', 'low'}
    assert {f'{name}.{key}' for name in ('threshold', 'aux_threshold') for key in stored} <= state.keys()
    assert not any(p.requires_grad for p in model.assignment.parameters())
    assert {name.split('.')[0] for name in state if 'threshold' not in name} >= {'online', 'assignment'}
    other = build_cosa(seed=5, **searched)
    other.load_state_dict(state, strict=True)
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())
    model.iteration = other.iteration = 9
    found = [m.loss(make_views(), make_samples()) for m in (model, other)]
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    build_cosa().load_state_dict(build_cosa(seed=5).state_dict(), strict=True)
