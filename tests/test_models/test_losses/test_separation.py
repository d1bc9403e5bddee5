import math

import pytest
import torch
from torch.autograd import gradcheck

from mmwsss.models.losses import separation_loss
from mmwsss.registry import MODELS


def slow_loss(features, mask, reliable, temperature, ignored=255):
    """Loops over anchors and pairs."""
    costs = []
    for feature, labels, sure in zip(features.flatten(2), mask.flatten(1).tolist(), reliable.flatten(1).tolist()):
        feature = feature / feature.norm(dim=0)
        for i, label in enumerate(labels):
            if label == ignored or not sure[i]:
                continue
            positives = [j for j, other in enumerate(labels) if other == label and sure[j] and j != i]
            negatives = [j for j, other in enumerate(labels) if other not in (label, ignored)]
            if not positives or not negatives:
                continue
            e = {j: math.exp((feature[:, i] @ feature[:, j]).item() / temperature) for j in positives + negatives}
            costs.append(-sum(math.log(e[p] / sum(e.values())) for p in positives) / len(positives))
    return sum(costs) / len(costs), len(costs)


def random_case(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 4, 3, 4, dtype=dtype, generator=generator)
    mask = torch.randint(3, (2, 3, 4), generator=generator)
    mask[0, 0, :2] = 255
    reliable = torch.rand(2, 3, 4, generator=generator) > 0.3
    return features, mask, reliable


def test_equals_loops():
    features, mask, reliable = random_case()
    expected, anchors = slow_loss(features, mask, reliable, 0.2)
    assert 5 < anchors < mask.numel()
    assert separation_loss(features, mask, reliable, 0.2).item() == pytest.approx(expected)
    assert separation_loss(features, mask, reliable.float(), 0.2).item() == pytest.approx(expected)


def test_gradients():
    features, mask, reliable = random_case()
    features.requires_grad_()
    assert gradcheck(lambda x: separation_loss(x, mask, reliable, 0.5), features)


def test_separated_features_cost_less():
    mask = torch.tensor([[[0, 0, 1, 1]]])
    apart = torch.tensor([[[[1.0, 1.0, -1.0, -1.0]]]])
    mixed = torch.tensor([[[[1.0, -1.0, 1.0, -1.0]]]])
    reliable = torch.ones(1, 1, 4)
    assert separation_loss(apart, mask, reliable).item() == pytest.approx(math.log1p(2 * math.exp(-20)), abs=1e-5)
    assert separation_loss(mixed, mask, reliable).item() > 10


def test_ignored_and_unreliable_pixels():
    features, mask, reliable = random_case(torch.float32)
    features.requires_grad_()
    (grad,) = torch.autograd.grad(separation_loss(features, mask, reliable), features)
    assert not grad[0, :, 0, :2].any()
    # Unreliable pixels are still pushed away as negatives.
    unsure = (~reliable & (mask != 255))[:, None].expand_as(grad)
    assert grad[unsure].any()


@pytest.mark.parametrize('case', ['ignored', 'one label', 'unreliable', 'no positive'])
def test_without_anchors_it_is_zero_with_a_graph(case):
    features, mask, reliable = random_case(torch.float32)
    if case == 'ignored':
        mask.fill_(255)
    elif case == 'one label':
        mask.fill_(1)
    elif case == 'unreliable':
        reliable.fill_(False)
    else:
        mask = torch.arange(12).reshape(1, 3, 4).expand(2, 3, 4)
    features.requires_grad_()
    loss = separation_loss(features, mask, reliable)
    (grad,) = torch.autograd.grad(loss, features)
    assert loss.item() == 0
    assert torch.isfinite(grad).all()
    assert not grad.any()


@pytest.mark.parametrize('value', [0.0, 1.0, 1e4])
def test_constant_features_are_finite(value):
    _, mask, reliable = random_case()
    features = torch.full((2, 4, 3, 4), value, requires_grad=True)
    loss = separation_loss(features, mask, reliable, temperature=0.01)
    (grad,) = torch.autograd.grad(loss, features)
    assert torch.isfinite(loss)
    assert torch.isfinite(grad).all()


def test_module_takes_perplexities_and_works_under_autocast():
    features, mask, _ = random_case(torch.float32)
    perplexities = torch.rand(2, 3, 4) * 2
    loss = MODELS.build(dict(type='SeparationLoss', temperature=0.2, epsilon=1.5, loss_weight=0.3))
    expected = 0.3 * separation_loss(features, mask, perplexities < 1.5, 0.2)
    torch.testing.assert_close(loss(features, mask, perplexities), expected)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        torch.testing.assert_close(loss(features, mask, perplexities), expected)
