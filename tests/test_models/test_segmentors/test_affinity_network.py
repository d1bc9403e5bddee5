import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmwsss.models.losses import affinity_loss
from mmwsss.refiners.affinity import pair_indices, pair_labels
from mmwsss.registry import MODELS


@MODELS.register_module()
class TwoDepths(BaseModule):
    """Features of two depths, the second with half the cells of the first."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 4, 4, stride=4)
        self.second = torch.nn.Conv2d(4, 6, 2, stride=2)

    def forward(self, images):
        first = self.first(images)
        return images, first, self.second(first)


def network(**settings):
    torch.manual_seed(0)
    model = dict(
        type='AffinityNetwork',
        backbone=dict(type='TwoDepths'),
        head=dict(type='AffinityHead', in_channels=(4, 6), tap_channels=(5, 3)),
        loss_affinity=dict(type='AffinityLoss'),
        in_index=(1, 2),
    )
    return MODELS.build({**model, **settings})


def samples(labels):
    return [SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in labels]


def draw_labels(size, batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.tensor([0, 0, 4, 9, 255])[torch.randint(0, 5, (batch, *size), generator=generator)]


def test_features_are_joined_as_in_psa():
    model = network()
    images = torch.randn(2, 3, 48, 64)
    _, first, second = model.backbone(images)
    head = model.head
    assert {name: tuple(value.shape) for name, value in head.state_dict().items()} == {
        'f8_3.weight': (5, 4, 1, 1), 'f8_4.weight': (3, 6, 1, 1), 'f9.weight': (8, 8, 1, 1),
    }  # fmt: skip
    shallow = F.interpolate(F.elu(head.f8_3(first)), (6, 8), mode='bilinear')
    expected = F.elu(head.f9(torch.cat((shallow, F.elu(head.f8_4(second))), dim=1)))
    assert torch.equal(model(images), expected)


@pytest.mark.parametrize(('size', 'radius'), [((96, 104), 5), ((80, 96), 4), ((40, 48), 2)])
def test_loss_is_that_of_the_pairs_within_a_radius_that_shrinks(size, radius):
    model, images = network(), torch.randn(2, 3, *size)
    grid = (size[0] // 8, size[1] // 8)
    labels = draw_labels(grid)
    losses = model(images, samples(labels), mode='loss')
    assert losses.keys() == {'loss_affinity'}
    losses['loss_affinity'].backward()
    gradients = [weight.grad.clone() for weight in model.parameters()]
    assert all(gradient.any() for gradient in gradients)
    model.zero_grad()

    first, partners = pair_indices(radius, grid)
    features = model(images).flatten(2)
    gap = (features[:, :, first][:, :, None] - features[:, :, partners]).abs().mean(dim=1)
    masks = [torch.stack(kind) for kind in zip(*(pair_labels(label, radius) for label in labels))]
    expected = affinity_loss(torch.exp(-gap), *masks)
    expected.backward()
    torch.testing.assert_close(losses['loss_affinity'], expected)
    for gradient, weight in zip(gradients, model.parameters()):
        torch.testing.assert_close(gradient, weight.grad, atol=1e-6, rtol=1e-4)


def test_matrix_holds_the_affinities_of_the_pairs():
    model = network(radius=3)
    images = torch.randn(2, 3, 64, 72)
    with torch.no_grad():
        matrix, size = model.affinity_matrix(images)
        features = model(images).flatten(2)
    assert size == (8, 9)
    dense = matrix.to_dense()
    assert torch.equal(dense, dense.T)
    assert not dense[:72, 72:].any()
    first, partners = pair_indices(3, size)
    expected = torch.eye(72)
    gap = (features[1, :, first][:, None] - features[1, :, partners]).abs().mean(dim=0)
    for row, values in zip(partners, torch.exp(-gap)):
        expected[first, row] = expected[row, first] = values
    torch.testing.assert_close(dense[72:, 72:], expected)


def test_images_are_enlarged_for_smaller_cells():
    plain, enlarged = network(), network(scale=2.0)
    images = torch.randn(1, 3, 40, 48)
    larger = F.interpolate(images, size=(80, 96), mode='bilinear')
    assert torch.equal(enlarged(images), plain(larger))
    enlarged(images, samples(draw_labels((10, 12), 1)), mode='loss')


def test_what_cannot_be_is_refused():
    model = network()
    images = torch.randn(2, 3, 96, 96)
    with pytest.raises(ValueError, match=r'makes 12 x 12 cells .* the labels have \(24, 24\); set stride'):
        model(images, samples(draw_labels((24, 24))), mode='loss')
    with pytest.raises(ValueError, match='needs 5 cells a side'):
        model.affinity_matrix(images[..., :32, :])
    with pytest.raises(ValueError, match='makes no masks; give its config and checkpoint to RandomWalk'):
        model(images, mode='predict')
    for settings in (dict(radius=1), dict(scale=0.0)):
        with pytest.raises(ValueError, match='of AffinityNetwork'):
            network(**settings)
    with pytest.raises(ValueError, match='one entry of tap_channels'):
        network(head=dict(type='AffinityHead', in_channels=(4, 6), tap_channels=(5,)))
