import math

import pytest
import torch
from torch.autograd import gradcheck

from mmwsss.models.losses import balanced_cross_entropy, balanced_nll, balanced_nll_of_masks, soft_cross_entropy
from mmwsss.registry import MODELS


@pytest.fixture
def case():
    """Log-probabilities and mask of four pixels: background, two foreground pixels, an ignored one."""
    p = torch.tensor([[[[0.5, 0.25, 0.1, 0.0]], [[0.5, 0.75, 0.9, 1.0]]]])
    return p.log(), torch.tensor([[[0, 1, 1, 255]]])


def test_background_and_foreground_are_averaged_apart(case):
    log, mask = case
    background, foreground = -math.log(0.5), -(math.log(0.75) + math.log(0.9)) / 2
    assert balanced_nll(log, mask).item() == pytest.approx((background + foreground) / 2, rel=1e-5)
    assert balanced_nll(log, mask, fg_weight=0.3).item() == pytest.approx(0.7 * background + 0.3 * foreground, rel=1e-5)
    assert balanced_nll(log, mask, fg_weight=None).item() == pytest.approx((background + 2 * foreground) / 3, rel=1e-5)


def test_means_run_over_the_batch_not_the_image(case):
    log, mask = case
    other = torch.tensor([[[0, 0, 0, 255]]])
    loss = balanced_nll(torch.cat((log, log)), torch.cat((mask, other)))
    background = -(2 * math.log(0.5) + math.log(0.25) + math.log(0.1)) / 4
    foreground = -(math.log(0.75) + math.log(0.9)) / 2
    assert loss.item() == pytest.approx((background + foreground) / 2, rel=1e-5)


def test_weights_do_not_enter_the_denominator_and_get_no_gradient(case):
    log, mask = case
    weights = torch.tensor([[[2.0, 0.0, 3.0, 5.0]]]).requires_grad_()
    log = log.requires_grad_()
    loss = balanced_nll(log, mask, weights=weights)
    loss.backward()
    assert loss.item() == pytest.approx((-2 * math.log(0.5) - 3 * math.log(0.9) / 2) / 2, rel=1e-5)
    assert weights.grad is None
    # The ignored pixel has an infinite log-probability and a weight, and still takes no part.
    assert not log.grad[..., 3].any()
    assert log.grad[0, 1, 0].tolist() == pytest.approx([0, 0, -0.75, 0], abs=1e-6)


@pytest.mark.parametrize('value', [0, 1, 255])
def test_empty_parts_are_zero_with_finite_gradients(value):
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    mask = torch.full((2, 4, 5), value)
    for fg_weight in (0.5, None):
        loss = balanced_cross_entropy(logits, mask, fg_weight)
        (grad,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(grad).all()
        assert (loss.item() == 0) == (value == 255)
        assert grad.any() == (value != 255)


def test_other_ignore_index():
    logits = torch.randn(1, 3, 2, 2)
    mask = torch.tensor([[[0, 1], [2, -1]]])
    expected = balanced_cross_entropy(logits, mask.where(mask >= 0, 255))
    assert torch.equal(balanced_cross_entropy(logits, mask, ignore_index=-1), expected)


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 2, 3, dtype=torch.float64, generator=generator).requires_grad_()
    mask = torch.tensor([[[0, 1, 2], [255, 0, 1]], [[1, 1, 0], [2, 255, 255]]])
    target = torch.rand(2, 3, 2, 3, dtype=torch.float64, generator=generator)
    assert gradcheck(lambda x: balanced_cross_entropy(x, mask), logits)
    assert gradcheck(lambda x: soft_cross_entropy(x, target), logits)


def test_soft_labels_that_are_hard_give_the_same():
    logits = torch.randn(2, 3, 4, 5)
    mask = torch.randint(3, (2, 4, 5))
    target = torch.nn.functional.one_hot(mask, 3).permute(0, 3, 1, 2).float()
    for fg_weight in (0.3, None):
        expected = balanced_cross_entropy(logits, mask, fg_weight)
        torch.testing.assert_close(soft_cross_entropy(logits, target, fg_weight), expected)


def test_soft_labels_choose_the_part_of_a_pixel():
    logits = torch.zeros(1, 2, 1, 3)
    target = torch.tensor([[[[0.6, 0.2, 0.1]], [[0.4, 0.2, 0.5]]]])
    # entropies ln 2 * (1, 0.4, 0.6); the tie of the second pixel goes to the background
    assert soft_cross_entropy(logits, target, 0.5).item() == pytest.approx(math.log(2) * (0.7 + 0.6) / 2, rel=1e-5)


def test_module_computes_in_single_precision(case):
    log, mask = case
    loss = MODELS.build(dict(type='BalancedCELoss', fg_weight=0.3, loss_weight=2.0))
    result = loss(log.clamp(min=-50).half(), mask)
    assert result.dtype == torch.float32
    assert result.item() == pytest.approx(2 * balanced_nll(log, mask, 0.3).item(), rel=1e-3)


@pytest.fixture
def shared_case():
    logits = torch.randn(2, 4, 3, 5, dtype=torch.double, requires_grad=True)
    masks = [torch.randint(0, 4, (2, 3, 5)), torch.randint(0, 4, (2, 3, 5))]
    masks[0][0, 0] = 255
    return logits, masks, [torch.rand(2, 3, 5, dtype=torch.double), None]


def test_one_softmax_for_several_masks_equals_separate_losses(shared_case):
    logits, masks, weights = shared_case
    losses, probabilities = balanced_nll_of_masks(logits, masks, 0.3, weights)
    separate = [balanced_cross_entropy(logits, mask, 0.3, weight) for mask, weight in zip(masks, weights)]
    torch.testing.assert_close(losses, torch.stack(separate))
    torch.testing.assert_close(probabilities, logits.softmax(dim=1))
    pull = torch.randn_like(probabilities)
    (shared,) = torch.autograd.grad(losses @ losses.new_tensor([0.5, 2.0]) + (probabilities * pull).sum(), logits)
    total = 0.5 * separate[0] + 2 * separate[1] + (logits.softmax(dim=1) * pull).sum()
    torch.testing.assert_close(shared, torch.autograd.grad(total, logits)[0])


def test_gradients_of_the_shared_softmax(shared_case):
    logits, masks, weights = shared_case
    assert gradcheck(lambda x: balanced_nll_of_masks(x, masks, 0.3, weights), logits)
    assert gradcheck(lambda x: balanced_nll_of_masks(x, masks)[0].sum(), logits)
    assert gradcheck(lambda x: balanced_nll_of_masks(x, masks)[1], logits)


def test_shared_softmax_is_finite_where_probabilities_vanish():
    logits = torch.tensor([[[[200.0, 200.0]], [[-200.0, -200.0]]]], requires_grad=True)
    losses, _ = balanced_nll_of_masks(logits, [torch.tensor([[[1, 255]]]), torch.full((1, 1, 2), 255)])
    losses.sum().backward()
    assert losses.tolist() == [pytest.approx(200, rel=1e-4), 0]
    assert logits.grad.isfinite().all()
    assert logits.grad[..., 1].eq(0).all()
