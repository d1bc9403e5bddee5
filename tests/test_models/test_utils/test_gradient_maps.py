"""Class maps from gradients of the class token against a plain loop over images and classes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from mmwsss.models.backbones import TokenViT
from mmwsss.models.heads import ClassTokenHead
from mmwsss.models.utils.gradient_maps import (
    FORMS,
    attention_affinity,
    block_map,
    class_token_maps,
    spread_by_affinity,
)
from mmwsss.registry import MODELS

CLASSES = torch.tensor([[0, 3], [2, 1]])
GRID = (4, 6)


@pytest.fixture
def network(backbone_cfg) -> tuple[TokenViT, ClassTokenHead]:
    backbone = MODELS.build({**backbone_cfg, 'final_norm': False})
    head = ClassTokenHead(8, 5)
    for weight in (*backbone.parameters(), *head.parameters()):
        nn.init.normal_(weight, std=0.5)
    return backbone.eval(), head.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 24)


def plain_maps(backbone, head, images: Tensor, classes: Sequence[Sequence[int]], start: int, form: str) -> Tensor:
    """The same, one forward and one backward pass for each image and class."""
    rows = []
    for image, wanted in zip(images, classes):
        for index in wanted:
            encoded = backbone.encode(image[None], 'all')
            gradients = torch.autograd.grad(head(encoded.tokens[-1])[0, index], encoded.attention)
            total = 0
            for g, a in list(zip(gradients, encoded.attention))[start:]:
                positive, product = g[0].clamp(min=0).mean(0), (g[0] * a[0]).clamp(min=0).mean(0)
                total = (
                    total
                    + dict(grad=positive, grad_s=positive**2, cam_grad=product, cam_grad_s=product * positive)[form]
                )
            rows.append(total[0, 1:].view(GRID))
    return torch.stack(rows).view(len(images), -1, *GRID).detach()


def batched_maps(backbone, head, images: Tensor, classes: Tensor, start: int, form: str) -> Tensor:
    tokens, grid = backbone.embed(images)
    entering, _ = backbone.run_blocks(tokens, 0, start)
    return class_token_maps(backbone, head, entering, grid, classes, start, form)


@pytest.mark.parametrize('start', [0, 1, 2])
@pytest.mark.parametrize('form', FORMS)
def test_equal_to_a_plain_loop(network, images, form: str, start: int) -> None:
    expected = plain_maps(*network, images, CLASSES.tolist(), start, form)
    found = batched_maps(*network, images, CLASSES, start, form)
    assert found.shape == (2, 2, *GRID)
    torch.testing.assert_close(found, expected)
    assert (found >= 0).all()
    assert found.flatten(2).any(dim=2).all()


def test_behind_a_final_norm(backbone_cfg, images) -> None:
    backbone, head = MODELS.build(backbone_cfg).eval(), ClassTokenHead(8, 5)
    assert backbone.final_norm
    for weight in (*backbone.parameters(), *head.parameters()):
        nn.init.normal_(weight, std=0.5)
    expected = plain_maps(backbone, head, images, CLASSES.tolist(), 1, 'grad')
    torch.testing.assert_close(batched_maps(backbone, head, images, CLASSES, 1, 'grad'), expected)


@pytest.mark.parametrize('frozen', [False, True])
@pytest.mark.parametrize('context', [nullcontext, torch.no_grad, torch.inference_mode])
def test_whatever_the_caller_does_with_gradients(network, images, context, frozen: bool) -> None:
    expected = batched_maps(*network, images, CLASSES, 1, 'grad')
    weights = [weight.requires_grad_(not frozen) for module in network for weight in module.parameters()]
    with context():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        found = batched_maps(*network, images, CLASSES, 1, 'grad')
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
        assert found.sum() > 0
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad
    assert all(weight.grad is None for weight in weights)


def test_gradients_of_weights_stay_as_they_were(network, images) -> None:
    backbone, head = network
    head(backbone.encode(images).tokens[-1]).sum().backward()
    before = {name: weight.grad.clone() for name, weight in backbone.named_parameters() if weight.grad is not None}
    batched_maps(backbone, head, images, CLASSES, 0, 'cam_grad')
    for name, weight in backbone.named_parameters():
        assert (weight.grad is None) == (name not in before)
        assert weight.grad is None or torch.equal(weight.grad, before[name]), name
    assert not any(layer.attn.scaled_dot_product_attention.is_open for layer in backbone.layers)


def test_images_and_classes_do_not_mix(network, images) -> None:
    both = batched_maps(*network, images, CLASSES, 1, 'grad_s')
    for i in range(2):
        for j in range(2):
            alone = batched_maps(*network, images[i : i + 1], CLASSES[i : i + 1, j : j + 1], 1, 'grad_s')
            torch.testing.assert_close(both[i : i + 1, j : j + 1], alone)


def test_forms_by_hand() -> None:
    gradient = torch.tensor([[[2.0, -1.0]], [[4.0, 3.0]]])  # two heads of one row
    attention = torch.tensor([[[0.5, 0.5]], [[0.25, 1.0]]])
    expected = dict(grad=[[3.0, 1.5]], grad_s=[[9.0, 2.25]], cam_grad=[[1.0, 1.5]], cam_grad_s=[[3.0, 2.25]])
    assert expected.keys() == set(FORMS)
    for form, values in expected.items():
        assert block_map(gradient, attention, form).tolist() == values


def test_affinity_sums_layers_and_averages_heads() -> None:
    layers = [torch.rand(2, 3, 7, 7) for _ in range(4)]
    affinity = attention_affinity(layers)
    expected = torch.zeros(2, 6, 6)
    for weights in layers:
        for head in range(3):
            expected += weights[:, head, 1:, 1:] / 3
    torch.testing.assert_close(affinity, expected)
    maps = torch.rand(2, 5, 2, 3)
    spread = spread_by_affinity(maps, affinity)
    assert spread.shape == maps.shape
    for i in range(2):
        for c in range(5):
            torch.testing.assert_close(spread[i, c].flatten(), affinity[i] @ maps[i, c].flatten())
