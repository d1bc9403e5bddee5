import pytest
import torch

from mmwsss.refiners.affinity import (
    ColourAffinity,
    affinity_label_map,
    corner_range,
    crop_flip_pad,
    fitted_radius,
    pair_affinity,
    pair_indices,
    pair_labels,
    pair_matrix,
    pair_offsets,
)
from mmwsss.registry import TASK_UTILS


def test_offsets_are_one_of_each_opposite_two_within_the_radius():
    assert pair_offsets(2) == [(0, 1), (1, -1), (1, 0), (1, 1)]
    offsets = set(pair_offsets(5))
    assert len(offsets) == 34
    everything = {(y, x) for y in range(-5, 6) for x in range(-5, 6) if 0 < y * y + x * x < 25}
    assert offsets | {(-y, -x) for y, x in offsets} == everything


@pytest.mark.parametrize(('size', 'expected'), [((11, 20), 5), ((30, 10), 4), ((6, 8), 2), ((5, 5), 2)])
def test_radius_shrinks_on_small_grids(size, expected):
    radius = fitted_radius(5, size)
    assert radius == expected
    assert pair_indices(radius, size)[0].numel() > 0


def test_pairs_lie_inside_the_grid_at_their_offsets():
    size, radius = (7, 9), 3
    first, partners = pair_indices(radius, size)
    assert partners.shape == (len(pair_offsets(radius)), len(first))
    for (dy, dx), row in zip(pair_offsets(radius), partners):
        assert torch.equal(row // size[1], first // size[1] + dy)
        assert torch.equal(row % size[1], first % size[1] + dx)
    assert partners.max() < 7 * 9


@pytest.mark.parametrize('radius', [1, 6])
def test_grid_without_pairs_is_refused(radius):
    with pytest.raises(ValueError, match='fitted_radius'):
        pair_indices(radius, (8, 8))


def test_labels_of_pairs():
    label = torch.tensor([[255, 0, 0, 255], [3, 0, 3, 5], [0, 3, 255, 0]])
    first, partners = pair_indices(2, label.shape)
    background, foreground, different = pair_labels(label, 2)
    flat = label.flatten()
    for place in torch.cartesian_prod(torch.arange(len(partners)), torch.arange(len(first))):
        a, b = flat[first[place[1]]], flat[partners[tuple(place)]]
        known = a != 255 and b != 255
        expected = (known and a == b == 0, known and a == b != 0, known and a != b)
        assert tuple(bool(mask[tuple(place)]) for mask in (background, foreground, different)) == expected


def test_label_map_takes_foreground_from_low_and_background_from_high():
    low, high = torch.zeros(3, 2, 8), torch.zeros(3, 2, 8)
    low[2, :, :2], high[2, :, :2] = 1, 1  # foreground in both
    low[0, :, 2:4], high[0, :, 2:4] = 1, 1  # background in both
    low[0, :, 4:6], high[1, :, 4:6] = 1, 1  # neither is certain
    assert affinity_label_map(low, high, stride=2).tolist() == [[2, 0, 255, 255]]  # the last cell is padding
    with pytest.raises(ValueError, match='differ in shape'):
        affinity_label_map(low, high[:2])


def test_crop_takes_from_long_axes_and_pads_short_ones():
    stack = torch.arange(1.0, 11).view(1, 2, 5)
    crop = crop_flip_pad(stack, 3, (1, 2), flip=False)
    assert crop.tolist() == [[[0, 0, 0], [3, 4, 5], [8, 9, 10]]]
    assert crop_flip_pad(stack, 3, (1, 2), flip=True).tolist() == [[[0, 0, 0], [5, 4, 3], [10, 9, 8]]]
    assert (corner_range(2, 3), corner_range(5, 3)) == (1, 2)
    with pytest.raises(ValueError, match='corner'):
        crop_flip_pad(stack, 3, (2, 0), flip=False)


def test_matrix_of_pairs_is_symmetric_with_ones_on_the_diagonal():
    first, partners = pair_indices(2, (3, 4))
    values = torch.rand(2, *partners.shape)
    matrix = pair_matrix(values, first, partners, 12)
    assert matrix.layout == torch.sparse_csr
    dense = matrix.to_dense()
    assert torch.equal(dense, dense.T)
    assert torch.equal(dense.diagonal(), torch.ones(24))
    assert not dense[:12, 12:].any()
    assert torch.equal(dense[12 + first, 12 + partners[1]], values[1, 1])


def test_colour_affinity_of_all_neighbours():
    images = torch.rand(2, 3, 12, 15) * 255
    dense = TASK_UTILS.build(dict(type='ColourAffinity', radius=2, deviation=30.0))(images, 3).to_dense()
    colours = torch.nn.functional.avg_pool2d(images, 3).flatten(2).transpose(1, 2)
    y, x = torch.arange(20) // 5, torch.arange(20) % 5
    near = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2 < 4
    for image in range(2):
        gap = (colours[image, :, None] - colours[image]).abs().mean(dim=-1)
        block = dense[20 * image : 20 * image + 20, 20 * image : 20 * image + 20]
        torch.testing.assert_close(block, torch.exp(-gap / 30) * near)


def test_colours_are_those_of_the_cells_of_the_scores():
    images = torch.full((1, 3, 8, 19), 10.0)
    images[..., 8:16], images[..., 16:] = 50, 90  # the last cell is cut by the border
    dense = ColourAffinity(radius=3, deviation=40.0)(images, 8).to_dense()
    torch.testing.assert_close(dense[0], torch.tensor([0.0, -1.0, -2.0]).exp())
    torch.testing.assert_close(dense[1, 2], torch.tensor(-1.0).exp())


def test_colour_affinity_of_a_single_cell():
    assert ColourAffinity()(torch.zeros(1, 3, 8, 8), 8).to_dense().tolist() == [[1.0]]


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match='radius'):
        ColourAffinity(radius=1)


def test_affinity_of_pairs_and_its_gradient():
    features = torch.randn(2, 5, 6, 9, dtype=torch.double, requires_grad=True)
    first, partners = pair_indices(3, (6, 9))
    flat = features.flatten(2)
    expected = torch.exp(-(flat[:, :, first][:, :, None] - flat[:, :, partners]).abs().mean(dim=1))
    values = pair_affinity(features, 3)
    torch.testing.assert_close(values, expected)
    weights = torch.rand_like(values)
    found, wanted = (torch.autograd.grad((weights * part).sum(), features)[0] for part in (values, expected))
    torch.testing.assert_close(found, wanted)
    with pytest.raises(ValueError, match='5 cells a side'):
        pair_affinity(features[..., :3, :], 4)


def test_labels_of_a_batch_are_those_of_its_images():
    labels = torch.tensor([0, 0, 2, 7, 255])[torch.randint(0, 5, (3, 7, 8))]
    for batched, *alone in zip(pair_labels(labels, 3), *(pair_labels(label, 3) for label in labels)):
        assert torch.equal(batched, torch.stack(alone))
