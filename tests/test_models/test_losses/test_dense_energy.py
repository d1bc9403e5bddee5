import pytest
import torch
import torch.nn.functional as F

from mmwsss.models.losses import boxes_to_regions, dense_energy_loss
from mmwsss.models.losses.dense_energy import filter_exactly
from mmwsss.registry import MODELS

FILTERS = ('lattice', 'exact')


def random_case(batch=2, channels=3, size=(8, 10)):
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(batch, channels, *size, generator=generator).softmax(dim=1)
    images = torch.randint(256, (batch, 3, *size), generator=generator).float()
    mask = torch.randint(channels, (batch, *size), generator=generator)
    regions = torch.ones(batch, *size)
    return probabilities, images, mask, regions


def test_energy_and_gradient_by_hand():
    probabilities, images, mask, regions = (x.double() for x in random_case(size=(3, 4)))
    mask[0, 1, 1:] = 255
    regions[1, :, 2:] = 0
    probabilities.requires_grad_()
    loss = dense_energy_loss(probabilities, images, mask.long(), regions, 20.0, 5.0, 1.0, 'exact')

    y, x = torch.meshgrid(torch.arange(3.0), torch.arange(4.0), indexing='ij')
    expected, pulls = 0, []
    for p, image, m, r in zip(probabilities.detach(), images, mask, regions):
        features = torch.stack((x / 5, y / 5, *(image / 20))).flatten(1).T.double()
        kernel = torch.exp(-((features[:, None] - features) ** 2).sum(dim=2) / 2)
        gate = (r - p.amax(dim=0)).clamp(min=0)
        gate[m == 255] = 1
        s = p * r
        smooth = (s.flatten(1) @ kernel).reshape(p.shape)
        expected -= (s * gate * smooth).sum() / 2
        pulls.append(-gate * smooth * r)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    (grad,) = torch.autograd.grad(loss, probabilities)
    # Both filters work on float32 features.
    torch.testing.assert_close(grad, torch.stack(pulls), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('filter', FILTERS)
def test_half_size_takes_nearest_pixels_of_all_but_the_probabilities(filter):
    probabilities, images, mask, regions = random_case()
    mask[0, 3, 5] = mask[0, 4, 6] = 255  # only the second lies on the coarse grid
    regions[1, :, 7:] = 0
    loss = dense_energy_loss(probabilities, images, mask, regions.bool(), scale=0.5, filter=filter)
    grid = (slice(None), slice(None, None, 2), slice(None, None, 2))
    small = F.avg_pool2d(probabilities, 2)  # what bilinear half-pixel resizing does at this factor
    images = images[:, :, ::2, ::2]
    direct = dense_energy_loss(small, images, mask[grid], regions[grid], sigma_xy=50, scale=1, filter=filter)
    assert loss.item() == pytest.approx(direct.item(), rel=1e-5)


@pytest.mark.parametrize('filter', FILTERS)
def test_gradient_sees_the_batch_factor_and_the_incoming_gradient(filter):
    probabilities, *others = random_case()
    probabilities.requires_grad_()
    (single,) = torch.autograd.grad(dense_energy_loss(probabilities, *others, filter=filter), probabilities)
    (scaled,) = torch.autograd.grad(3 * dense_energy_loss(probabilities, *others, filter=filter), probabilities)
    torch.testing.assert_close(scaled, 3 * single)
    twice = [torch.cat((x, x)) for x in (probabilities, *others)]
    (halved,) = torch.autograd.grad(dense_energy_loss(*twice, filter=filter), probabilities)
    torch.testing.assert_close(halved, single)  # each image counts twice, divided by a batch twice as large
    (loss_of_one,) = torch.autograd.grad(
        dense_energy_loss(probabilities[:1], *(x[:1] for x in others), filter=filter), probabilities
    )
    torch.testing.assert_close(loss_of_one[0], 2 * single[0])


def test_exact_filter_does_not_depend_on_its_blocks():
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2, 7, 5, generator=generator)
    values = torch.rand(2, 7, 3, generator=generator)
    kernel = torch.exp(-((features[:, :, None] - features[:, None]) ** 2).sum(dim=3) / 2)
    for pairs in (1, 30, 1000):
        torch.testing.assert_close(filter_exactly(features, values, pairs), kernel @ values)


@pytest.mark.parametrize('filter', FILTERS)
def test_degenerate_inputs(filter):
    loss = MODELS.build(dict(type='DenseEnergyLoss', filter=filter))
    probabilities, images, mask, regions = random_case()
    constant = torch.zeros_like(images)
    ignored = torch.full_like(mask, 255)
    hard = torch.zeros_like(probabilities)
    hard[:, 0] = 1
    for p, image, m, r, vanishes in (
        (probabilities, constant, ignored, regions, False),
        (probabilities, images, ignored, torch.zeros_like(regions), True),
        (hard, images, mask, regions, True),  # certain pixels close their gate
    ):
        p = p.clone().requires_grad_()
        result = loss(p, image, m, r)
        (grad,) = torch.autograd.grad(result, p)
        assert torch.isfinite(grad).all()
        assert (result.item() == 0) == vanishes
        assert grad.any() != vanishes


def test_module_has_factor_and_weight_and_single_precision():
    probabilities, *others = random_case()
    loss = MODELS.build(dict(type='DenseEnergyLoss', factor=0.5, sigma_rgb=30, sigma_xy=40, loss_weight=3.0))
    expected = 1.5 * dense_energy_loss(probabilities, *others, 30, 40)
    torch.testing.assert_close(loss(probabilities, *others), expected)
    assert loss(probabilities.half(), *others).dtype == torch.float32


def test_unknown_filter():
    with pytest.raises(ValueError, match="filter 'fast'"):
        dense_energy_loss(*random_case(), filter='fast')
    with pytest.raises(ValueError, match="filter 'fast'"):
        MODELS.build(dict(type='DenseEnergyLoss', filter='fast'))


def test_regions_of_boxes():
    regions = boxes_to_regions(torch.tensor([[1, 3, 0, 2], [0, -1, 0, -1]], dtype=torch.int16), (3, 3))
    assert regions.dtype == torch.float32
    assert regions.tolist() == [[[0, 0, 0], [1, 1, 0], [1, 1, 0]], [[1, 1, 0], [1, 1, 0], [0, 0, 0]]]
