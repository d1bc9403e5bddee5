"""Mean field of the dense CRF against a brute-force one without a lattice."""

from __future__ import annotations

import pytest
import torch

from mmwsss.refiners import DenseCRF, dense_crf


def brute_force(image: torch.Tensor, probabilities: torch.Tensor, settings: DenseCRF) -> torch.Tensor:
    """Dense kernels including the point itself, normalised symmetrically; float64."""
    channels, height, width = probabilities.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    position = torch.stack((x, y), dim=-1).reshape(-1, 2).double()
    colour = image.double().flatten(1).T
    features = {
        settings.gaussian_weight: position / settings.gaussian_xy,
        settings.bilateral_weight: torch.cat(
            (position / settings.bilateral_xy, colour / settings.bilateral_rgb), dim=1
        ),
    }
    unary = probabilities.double().clamp(settings.min_probability, 1).log().flatten(1).T
    q = unary.softmax(dim=1)
    for _ in range(settings.iterations):
        message = unary
        for weight, feature in features.items():
            kernel = torch.exp(-0.5 * torch.cdist(feature, feature) ** 2)
            scale = kernel.sum(dim=1, keepdim=True).rsqrt()
            message = message + weight * scale * (kernel @ (scale * q))
        q = message.softmax(dim=1)
    return q.T.reshape(channels, height, width)


@pytest.fixture
def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """Two regions of different colour and noisy maps of three classes that lean towards them."""
    generator = torch.Generator().manual_seed(0)
    image = torch.full((3, 12, 16), 60.0)
    image[:, :, 7:] = 180
    image += torch.randn(image.shape, generator=generator)
    logits = torch.randn(3, 12, 16, generator=generator)
    logits[0, :, :7] += 1
    logits[1, :, 7:] += 1
    return image.round().clamp(0, 255), logits.softmax(dim=0)


@pytest.mark.parametrize('iterations', [1, 5])
def test_mean_field_is_close_to_the_dense_one(scene: tuple[torch.Tensor, torch.Tensor], iterations: int) -> None:
    settings = DenseCRF(iterations=iterations, bilateral_xy=8, bilateral_rgb=6)
    out, exact = settings(*scene).double(), brute_force(*scene, settings)
    assert (out - exact).abs().mean() < 0.03
    assert (out.argmax(0) == exact.argmax(0)).double().mean() > 0.97
    unrefined = scene[1].double()
    assert (out - exact).abs().mean() < 0.2 * (unrefined - exact).abs().mean()


def test_regions_become_pure(scene: tuple[torch.Tensor, torch.Tensor]) -> None:
    mask = DenseCRF()(*scene).argmax(dim=0)
    before = scene[1].argmax(dim=0)
    truth = (torch.arange(16) >= 7).long().expand(12, 16)
    assert (mask == truth).float().mean() > 0.97 > (before == truth).float().mean()


def test_classes_can_be_permuted(scene: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, probabilities = scene
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(DenseCRF()(image, probabilities[order]), DenseCRF()(image, probabilities)[order])


def test_result_is_a_distribution_for_any_input_type(scene: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, probabilities = scene
    out = DenseCRF(iterations=2)(image, probabilities)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.sum(dim=0), torch.ones(12, 16))
    assert torch.equal(DenseCRF(iterations=2)(image.byte(), probabilities.double()), DenseCRF(2)(image, probabilities))


def test_without_steps_or_weights_the_maps_stay() -> None:
    image = torch.randint(0, 256, (3, 5, 4))
    probabilities = torch.rand(3, 5, 4).softmax(dim=0)
    for settings in (DenseCRF(iterations=0), DenseCRF(gaussian_weight=0, bilateral_weight=0)):
        torch.testing.assert_close(dense_crf(image, probabilities, settings), probabilities)


def test_zero_probabilities_stay_finite() -> None:
    probabilities = torch.zeros(2, 4, 4)
    probabilities[0] = 1
    out = DenseCRF()(torch.zeros(3, 4, 4), probabilities)
    assert out.isfinite().all()
    assert (out[0] > 0.99).all()


def test_sizes_have_to_agree() -> None:
    with pytest.raises(ValueError, match=r'image \(3, 4, 5\) and probabilities \(2, 5, 4\) differ in size'):
        DenseCRF()(torch.zeros(3, 4, 5), torch.zeros(2, 5, 4))
