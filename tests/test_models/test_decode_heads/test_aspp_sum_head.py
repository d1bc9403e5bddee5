"""Head of DeepLabV2."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmwsss.models.decode_heads import ASPPSumHead
from mmwsss.registry import MODELS


def test_logits_are_the_sum_of_dilated_classifiers() -> None:
    head = MODELS.build(dict(type='ASPPSumHead', in_channels=5, num_classes=3, dilations=(1, 2, 4), in_index=1))
    head.init_weights()
    features = torch.randn(2, 5, 6, 7)
    expected = sum(
        F.conv2d(F.pad(features, [dilation] * 4), conv.weight, conv.bias, dilation=dilation)
        for conv, dilation in zip(head.conv_seg, (1, 2, 4))
    )
    torch.testing.assert_close(head([torch.randn(2, 9, 1, 1), features]), expected)
    assert head([features, features]).shape == (2, 3, 6, 7)


def test_weights() -> None:
    head = ASPPSumHead(16, num_classes=4)
    assert [conv.dilation for conv in head.conv_seg] == [conv.padding for conv in head.conv_seg]
    assert {tuple(conv.weight.shape) for conv in head.conv_seg} == {(4, 16, 3, 3)}
    head.init_weights()
    std = torch.cat([conv.weight.flatten() for conv in head.conv_seg]).std().item()
    assert 0.008 < std < 0.012
    assert not any(conv.bias.any() for conv in head.conv_seg)


def test_no_dilation_is_refused() -> None:
    with pytest.raises(ValueError, match='at least one dilation'):
        ASPPSumHead(4, num_classes=2, dilations=())
