import math

import pytest
import torch

from mmwsss.registry import MODELS


def test_soft_margin_by_hand():
    loss = MODELS.build(dict(type='MultiLabelSoftMarginLoss', loss_weight=2.0))
    logits, labels = torch.tensor([[2.0, -1.0]]), torch.tensor([[1, 1]])
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(1))) / 2
    assert loss(logits, labels).item() == pytest.approx(2 * expected, rel=1e-5)


def test_extreme_half_precision_logits_are_finite():
    logits = torch.tensor([[6e4, -6e4, 0.0]], dtype=torch.float16, requires_grad=True)
    loss = MODELS.build(dict(type='MultiLabelSoftMarginLoss'))(logits, torch.tensor([[0.0, 1.0, 0.0]]))
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
