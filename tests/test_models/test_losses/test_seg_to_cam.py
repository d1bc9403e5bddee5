import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from mmwsss.models.losses import cam_mask_loss, confident_argmax, normalized_cam_loss, raw_cam_loss
from mmwsss.models.losses.seg_to_cam import unit_range
from mmwsss.registry import MODELS


def sigmoid_entropy(logit, target):
    return -(target * math.log(1 / (1 + math.exp(-logit))) + (1 - target) * math.log(1 / (1 + math.exp(logit))))


def test_raw_maps_by_hand():
    cam = torch.tensor([[[[2.0, -1.0]]]])
    probabilities = torch.tensor([[[[0.0, 0.75]], [[1.0, 0.25]]]])
    expected = (sigmoid_entropy(2, 1) + sigmoid_entropy(0, 0.25)) / 2
    assert raw_cam_loss(cam, probabilities).item() == pytest.approx(expected, rel=1e-5)
    expected = (sigmoid_entropy(2, 1) + sigmoid_entropy(-1, 0.25)) / 2
    assert raw_cam_loss(cam, probabilities, rectify=False).item() == pytest.approx(expected, rel=1e-5)


def test_labels_come_down_without_antialiasing():
    cam = torch.full((1, 1, 1, 1), 3.0)
    foreground = torch.rand(1, 1, 4, 4)
    loss = raw_cam_loss(cam, torch.cat((1 - foreground, foreground), dim=1))
    target = foreground[0, 0, 1:3, 1:3].mean().item()
    assert loss.item() == pytest.approx(sigmoid_entropy(3, target), rel=1e-4)


def test_negative_logits_get_no_gradient_when_rectified():
    cam = torch.tensor([[[[1.0, -2.0]]]], requires_grad=True)
    probabilities = torch.tensor([[[[0.0, 0.0]], [[1.0, 1.0]]]])
    (grad,) = torch.autograd.grad(raw_cam_loss(cam, probabilities), cam)
    assert grad[0, 0, 0, 0] < 0
    assert grad[0, 0, 0, 1] == 0
    (grad,) = torch.autograd.grad(raw_cam_loss(cam, probabilities, rectify=False), cam)
    assert (grad < 0).all()


def test_normalised_maps_by_hand_and_detached_range():
    cam = torch.tensor([[[[4.0, 1.0, 0.0]]]], dtype=torch.float64, requires_grad=True)
    probabilities = torch.rand(1, 2, 1, 3, dtype=torch.float64)
    scores = [4 / 4.0001, 1 / 4.0001, 0]
    expected = sum(sigmoid_entropy(s, t) for s, t in zip(scores, probabilities[0, 1, 0].tolist())) / 3
    free = normalized_cam_loss(cam, probabilities)
    fixed = normalized_cam_loss(cam, probabilities, detach_range=True)
    assert free.item() == pytest.approx(expected)
    assert fixed.item() == pytest.approx(expected)
    targets = probabilities[:, 1:]
    plain = (cam.detach() / 4.0001).sigmoid() - targets
    (grad,) = torch.autograd.grad(fixed, cam)
    inner = (plain / 3 / 4.0001) * (cam > 0)  # the logit 0 is where relu has no slope
    torch.testing.assert_close(grad, inner)
    (grad,) = torch.autograd.grad(free, cam)
    assert not torch.allclose(grad, inner)


@pytest.mark.parametrize('background', ['max', 'mean'])
def test_full_size_version_by_hand(background):
    cam = torch.tensor([[[[2.0, 0.0]], [[0.0, 1.0]], [[0.0, 0.0]]]])
    mask = torch.tensor([[[0, 2]]])
    maps = unit_range(cam)
    best = maps.amax(dim=1) if background == 'max' else maps.mean(dim=1)
    logits = torch.cat((1 - best[:, None], maps), dim=1)
    losses = F.cross_entropy(logits, mask, reduction='none')
    expected = 0.7 * losses[0, 0, 0] + 0.3 * losses[0, 0, 1]
    loss = cam_mask_loss(cam, mask, background=background, fg_weight=0.3)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_pixels_at_the_confidence_are_ignored():
    probabilities = torch.tensor([[[[0.25, 0.2]], [[0.25, 0.1]], [[0.1, 0.7]]]])
    assert confident_argmax(probabilities, 0.25).tolist() == [[[255, 2]]]
    assert confident_argmax(probabilities, 0.8, ignore_index=9).tolist() == [[[9, 9]]]


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    cam = torch.randn(2, 2, 3, 4, dtype=torch.float64, generator=generator).requires_grad_()
    probabilities = torch.rand(2, 3, 6, 8, dtype=torch.float64, generator=generator)
    mask = confident_argmax(probabilities, 0.6)
    assert (mask == 255).any()
    assert (mask != 255).any()
    assert gradcheck(lambda x: raw_cam_loss(x, probabilities), cam)
    assert gradcheck(lambda x: normalized_cam_loss(x, probabilities, rectify=False), cam)
    assert gradcheck(lambda x: cam_mask_loss(x, mask, rectify=False), cam)


@pytest.mark.parametrize('version', ['v1', 'v2', 'v3'])
@pytest.mark.parametrize('confidence', [0.25, 1.0])
def test_degenerate_inputs_are_finite(version, confidence):
    loss = MODELS.build(dict(type='SegToCAMLoss', version=version, confidence=confidence))
    for value in (-3.0, 0.0, 2.0, 60000.0):
        cam = torch.full((2, 3, 4, 4), value, dtype=torch.float16, requires_grad=True)
        probabilities = torch.zeros(2, 4, 8, 8)
        probabilities[:, 0] = 1
        result = loss(cam, probabilities)
        result.backward()
        assert result.dtype == torch.float32
        assert torch.isfinite(result)
        assert torch.isfinite(cam.grad).all()
        if version == 'v3' and confidence == 1:
            assert result.item() == 0


def test_target_gets_no_gradient():
    cam = torch.randn(1, 2, 3, 3, requires_grad=True)
    probabilities = torch.rand(1, 3, 3, 3, requires_grad=True)
    for version in ('v1', 'v2', 'v3'):
        loss = MODELS.build(dict(type='SegToCAMLoss', version=version, loss_weight=0.5))(cam, probabilities)
        loss.backward()
        assert probabilities.grad is None


def test_settings():
    sizes = {v: MODELS.build(dict(type='SegToCAMLoss', version=v)).needs_full_size for v in ('v1', 'v2', 'v3')}
    assert sizes == {'v1': False, 'v2': False, 'v3': True}
    with pytest.raises(ValueError, match="version 'v4' is none of v1, v2, v3"):
        MODELS.build(dict(type='SegToCAMLoss', version='v4'))
    with pytest.raises(ValueError, match="background 'min'"):
        MODELS.build(dict(type='SegToCAMLoss', background='min'))
