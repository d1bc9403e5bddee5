"""Views, masks and losses of mmseg's segmentor as the second stage of PMM uses it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image
from torch import nn

from mmwsss.models.losses import UnderFittingCrossEntropyLoss
from mmwsss.models.losses.under_fitting import under_fitting_cross_entropy
from mmwsss.registry import MODELS

SIZE, CLASSES = (24, 32), 4
ARCH = dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=16)


@MODELS.register_module()
class TwoMaps(nn.Module):
    """Backbone of two convolutions whose features both heads read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        first = self.first(images).relu()
        return first, self.second(first)


def head(in_index: int, **settings) -> dict:
    common = dict(channels=8, num_convs=0, concat_input=False, dropout_ratio=0, align_corners=False)
    return dict(type='FCNHead', in_channels=8, in_index=in_index, num_classes=CLASSES, **common, **settings)


def build(kind: str = 'MultiViewEncoderDecoder', **settings) -> nn.Module:
    torch.manual_seed(0)
    config = dict(type=kind, backbone=dict(type='TwoMaps'), decode_head=head(-1), test_cfg=dict(mode='whole'))
    model = MODELS.build(ConfigDict({**config, **settings}))
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.5)
    return model.eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(3))


def samples(**metainfo) -> list[SegDataSample]:
    return [SegDataSample(metainfo=dict(ori_shape=SIZE, img_shape=SIZE, **metainfo)) for _ in range(2)]


def test_without_views_it_is_the_segmentor_of_mmseg(images) -> None:
    found, expected = (build(kind).predict(images, samples()) for kind in ('MultiViewEncoderDecoder', 'EncoderDecoder'))
    for ours, theirs in zip(found, expected):
        assert torch.equal(ours.pred_sem_seg.data, theirs.pred_sem_seg.data)
        assert torch.equal(ours.seg_logits.data, theirs.seg_logits.data)
    assert build().state_dict().keys() == build('EncoderDecoder').state_dict().keys()


def test_probabilities_are_averaged_over_views(images) -> None:
    model = build(test_cfg=dict(views=dict(scales=(0.5, 1.0), flip=True)))
    expected = []
    for scale in (0.5, 1.0):
        size = [int(side * scale) for side in SIZE]
        for flip in (False, True):
            view = F.interpolate(images, size=size, mode='bilinear', align_corners=False)
            logits = model._forward(view.flip(-1) if flip else view)
            logits = F.interpolate(logits, size=SIZE, mode='bilinear', align_corners=False)
            expected.append((logits.flip(-1) if flip else logits).softmax(dim=1))
    expected = torch.stack(expected).mean(dim=0)
    with torch.no_grad():
        outputs = model.viewed_outputs(images)
    torch.testing.assert_close(outputs['probabilities'], expected)
    assert torch.equal(outputs['scores'], outputs['probabilities'][:, 1:].amax((2, 3)))
    for sample, probabilities in zip(model.predict(images, samples()), expected):
        assert torch.equal(sample.pred_sem_seg.data[0], probabilities.argmax(0))


def test_base_makes_a_view_of_any_image_as_large(images) -> None:
    model = build(test_cfg=dict(views=dict(scales=(0.5,), base=(64, 32))))
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape[-2:])))
    model.viewed_outputs(images)
    model.viewed_outputs(images[..., :12])
    assert seen == [(16, 21), (32, 16)], 'at most 32 x 16, the longer side along that of the image'


def test_views_of_a_transformer_are_whole_patches() -> None:
    backbone = dict(type='TokenViT', arch=ARCH, img_size=16, patch_size=8, pos_interp='bilinear')
    decoder = dict(head(-1), in_channels=8)
    model = build(backbone=backbone, decode_head=decoder, test_cfg=dict(views=dict(scales=(0.6, 1.0))))
    assert model.viewed_outputs(torch.randn(1, 3, 16, 24))['probabilities'].shape == (1, CLASSES, 16, 24)


def test_image_labels_exclude_classes_from_pseudo_masks_only(images) -> None:
    model = build()
    with torch.no_grad():
        outputs = model.viewed_outputs(images[:1])
    free = model.pseudo_label(outputs, samples()[0]).mask
    assert set(free.unique().tolist()) - {0, 2}
    known = model.pseudo_label(outputs, samples()[0], torch.tensor([[0.0, 1.0, 0.0]]))
    assert set(known.mask.unique().tolist()) <= {0, 2}
    assert known.maps[:, [1, 3]].eq(0).all()
    assert torch.equal(model.predict(images, samples())[0].pred_sem_seg.data, free)


def test_labeler_decides_at_the_size_of_the_original_image(images, tmp_path: Path) -> None:
    path = tmp_path / 'image.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)
    steps = [dict(type='Refine', refiner=dict(type='DenseCRF', iterations=2)), dict(type='Decide')]
    plain, refined = build(), build(pseudo_labeler=dict(steps=steps))
    sample = SegDataSample(metainfo=dict(ori_shape=(30, 40), img_path=str(path)))
    outputs = refined.viewed_outputs(images[:1])
    masks = [model.pseudo_label(outputs, sample).mask for model in (plain, refined)]
    assert {mask.shape for mask in masks} == {(1, 30, 40)}
    assert not torch.equal(*masks)
    assert torch.equal(refined.predict(images[:1], [sample])[0].pred_sem_seg.data, masks[1])


def test_mistakes(images) -> None:
    for views in (dict(), dict(scales=()), dict(scales=(0,)), dict(scales=(1,), size=3), dict(scales=(1,), base=(5,))):
        with pytest.raises(ValueError, match='views needs positive scales'):
            build(test_cfg=dict(views=views))
    with pytest.raises(ValueError, match='one logit for each class'):
        build(decode_head=dict(head(-1), num_classes=2, out_channels=1, threshold=0.5))
    model = build()
    outputs = model.viewed_outputs(images[:1])
    with pytest.raises(ValueError, match='padded to a batch'):
        model.pseudo_label(outputs, samples(img_padding_size=(0, 4, 0, 0))[0])


@pytest.mark.parametrize('held', ['decode', 'aux'])
def test_each_head_holds_back_by_its_own_mean(images, held: str) -> None:
    loss = dict(type='UnderFittingCrossEntropyLoss', form='clamp', beta=0.5, k=0.1)
    auxiliary = head(0, loss_decode=dict(loss, loss_weight=0.4))
    model = build(decode_head=head(-1, loss_decode=loss), auxiliary_head=auxiliary).train()
    fits, fails = (model.decode_head, model.auxiliary_head)[:: 1 if held == 'decode' else -1]
    target = torch.zeros(2, *SIZE, dtype=torch.long)
    target[:, :2] = 1
    for part, sign in ((fits, 1), (fails, -1)):
        nn.init.zeros_(part.conv_seg.weight)
        part.conv_seg.bias.data = torch.tensor([4.0, 0.0, 0.0, 0.0]) * sign
    batch = samples()
    for sample, mask in zip(batch, target):
        sample.gt_sem_seg = PixelData(data=mask[None])
    losses = model.loss(images, batch)
    heads = dict(decode=(model.decode_head, 1.0), aux=(model.auxiliary_head, 0.4))
    for name, (part, weight) in heads.items():
        assert isinstance(part.loss_decode, UnderFittingCrossEntropyLoss)
        logits = part.conv_seg.bias[None, :, None, None].expand(2, CLASSES, *SIZE)
        plain = weight * F.cross_entropy(logits, target)
        expected = weight * under_fitting_cross_entropy(logits, target, 'clamp' if name == held else 'none', 9.0, 0.1)
        torch.testing.assert_close(losses[f'{name}.loss_ce'], expected)
        assert (losses[f'{name}.loss_ce'] < plain - 1e-3) == (name == held)
