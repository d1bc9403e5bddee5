"""LargeFOV head alone and inside mmseg's EncoderDecoder, and mmseg's mask transformer as the other choice."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmwsss.models.decode_heads import LargeFOVHead
from mmwsss.registry import MODELS

MASK_TRANSFORMER = dict(
    type='SegmenterMaskTransformerHead', embed_dims=8, num_layers=2, num_heads=2, drop_rate=0.1, attn_drop_rate=0.1,
    drop_path_rate=0.0, dropout_ratio=0.0,
)  # fmt: skip
DECODE_HEADS = {'large_fov': dict(type='LargeFOVHead', dilation=2), 'mask_transformer': MASK_TRANSFORMER}


def test_logits_are_those_of_three_convolutions() -> None:
    head = LargeFOVHead(6, 5, num_classes=4, dilation=3)
    features = torch.randn(2, 6, 3, 8)
    hidden = F.conv2d(F.pad(features, [3] * 4), head.conv6.weight, dilation=3).relu()
    hidden = F.conv2d(F.pad(hidden, [3] * 4), head.conv7.weight, dilation=3).relu()
    expected = torch.einsum('cd,bdhw->bchw', head.conv_seg.weight[:, :, 0, 0], hidden)
    for inputs in ([torch.randn(2, 9, 1, 1), features], (features,)):
        torch.testing.assert_close(head(inputs), expected)


def test_other_features_can_be_read() -> None:
    head = LargeFOVHead(6, 5, num_classes=4, in_index=0)
    first, second = torch.randn(2, 1, 6, 3, 3)
    assert torch.equal(head([first, second]), head([first]))


def test_weights() -> None:
    head = LargeFOVHead(16, num_classes=3)
    shapes = {name: tuple(weight.shape) for name, weight in head.state_dict().items()}
    assert shapes == {
        'conv6.weight': (512, 16, 3, 3),
        'conv7.weight': (512, 512, 3, 3),
        'conv_seg.weight': (3, 512, 1, 1),
    }
    assert head.conv6.dilation == head.conv6.padding == head.conv7.dilation == head.conv7.padding == (5, 5)
    assert not head.align_corners


def test_default_start_is_that_of_pytorch() -> None:
    head = LargeFOVHead(16, 64, num_classes=21)
    before = {name: weight.clone() for name, weight in head.state_dict().items()}
    head.init_weights()
    assert all(torch.equal(weight, before[name]) for name, weight in head.state_dict().items())
    for weight in head.parameters():
        assert weight.abs().max().item() == pytest.approx(weight[0].numel() ** -0.5, rel=0.05)
    given = LargeFOVHead(16, 64, num_classes=21, init_cfg=dict(type='Constant', layer='Conv2d', val=0.5))
    given.init_weights()
    assert all((weight == 0.5).all() for weight in given.parameters())


@pytest.mark.parametrize('name', DECODE_HEADS)
def test_decode_head_of_an_encoder_decoder(backbone_cfg: dict, name: str) -> None:
    head = dict(in_channels=8, channels=8, num_classes=4, loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.5))
    model = MODELS.build(
        dict(type='EncoderDecoder', backbone=backbone_cfg, decode_head={**head, **DECODE_HEADS[name]}, test_cfg=dict())
    )
    model.init_weights()
    masks = torch.randint(0, 4, (2, 1, 16, 24))
    masks[:, :, :4] = 255
    samples = [SegDataSample(gt_sem_seg=PixelData(data=mask), metainfo=dict(img_shape=(16, 24))) for mask in masks]
    losses = model.loss(torch.randn(2, 3, 16, 24), samples)
    losses['decode.loss_ce'].backward()
    assert all(weight.grad is not None for weight in model.parameters())
    assert model.eval()(torch.randn(2, 3, 16, 24)).shape == (2, 4, 4, 6)


@pytest.mark.parametrize('name', DECODE_HEADS)
def test_dropout(name: str) -> None:
    head = MODELS.build(dict(in_channels=8, channels=8, num_classes=4, **DECODE_HEADS[name])).train()
    features = [torch.randn(1, 8, 3, 3)]
    assert torch.equal(head(features), head(features)) == (name == 'large_fov')
    head.eval()
    assert torch.equal(head(features), head(features))
