import pytest
import torch

from mmwsss.refiners import ColourAffinity, RandomWalk, random_walk
from mmwsss.refiners.cells import pool_to_cells, spread_cells
from mmwsss.refiners.random_walk import transition
from mmwsss.registry import REFINERS

GRID = (4, 5)


def draw(batch=2, channels=3, size=(30, 37), seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (batch, 3, *size), generator=generator, dtype=torch.uint8)
    return images, torch.rand(batch, channels, *size, generator=generator)


def blocks(matrix, batch):
    cells = len(matrix) // batch
    dense = matrix.to_dense()
    return torch.stack([dense[i * cells : (i + 1) * cells, i * cells : (i + 1) * cells] for i in range(batch)])


def test_steps_are_transposed_and_normalised_over_the_columns():
    affinity = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(0))
    power = affinity**3
    expected = (power / power.sum(dim=1, keepdim=True)).transpose(1, 2)
    torch.testing.assert_close(transition(affinity, 3), expected)
    sparse = torch.block_diag(*affinity).to_sparse()
    torch.testing.assert_close(blocks(transition(sparse, 3), 2), expected)


def test_walk_equals_squaring_the_matrix_dense_and_sparse():
    images, maps = draw()
    affinity = ColourAffinity(radius=3)(images, 8)
    scores = pool_to_cells(maps, 8)
    dense = blocks(affinity, 2)
    steps = dense**4 / (dense**4).sum(dim=1, keepdim=True)
    for _ in range(5):
        steps = steps @ steps
    expected = (scores.flatten(2) @ steps).view(scores.shape)
    for matrix in (dense, affinity):
        torch.testing.assert_close(random_walk(matrix, scores, beta=4, logt=5), expected, atol=1e-6, rtol=1e-4)


def test_images_of_a_batch_do_not_mix():
    images, maps = draw()
    refiner = RandomWalk(ColourAffinity(radius=3), logt=4)
    together = refiner(images, maps)
    alone = torch.cat([refiner(images[i : i + 1], maps[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


def test_absent_classes_are_zero_whatever_they_held():
    images, maps = draw(channels=4)
    refiner = RandomWalk(ColourAffinity(radius=3), logt=3)
    full = refiner(images, maps)
    labels = torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    present = torch.tensor([[1, 0, 1, 0], [1, 1, 1, 0]], dtype=torch.bool)
    maps[~present] = torch.nan
    refined = refiner(images, maps, labels)
    torch.testing.assert_close(refined[present], full[present], atol=1e-6, rtol=1e-5)
    assert not refined[~present].any()
    assert not refiner(images, maps[:, 1:], torch.zeros(2, 3)).any()


def test_absent_channels_do_not_walk(monkeypatch):
    images, maps = draw(channels=5)
    widths = []

    def walk(affinity, scores, beta, logt):
        widths.append(scores.shape[1])
        return random_walk(affinity, scores, beta, logt)

    # The package has a function of the module's name.
    monkeypatch.setitem(RandomWalk._walk.__globals__, 'random_walk', walk)
    refiner = RandomWalk(ColourAffinity(radius=3), logt=1)
    refiner(images, maps, torch.tensor([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]]))  # and the background
    refiner(images, maps, torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]]))
    refiner(images, maps, torch.zeros(2, 5))
    refiner(images, maps)
    assert widths == [3, 1, 5]


def test_channels_stay_as_they_are_with_and_without_labels():
    images, maps = draw(channels=3)
    refiner = RandomWalk(ColourAffinity(radius=3), logt=2)
    assert not refiner.needs_background
    for labels in (None, torch.ones(2, 3), torch.ones(2, 2)):
        assert refiner(images, maps, labels).shape == maps.shape
    empty = images[:0], maps[:0], torch.ones(0, 3)
    assert refiner(*empty, affinity=torch.zeros(0, 20, 20)).shape == (0, 3, 30, 37)


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        (dict(beta=0), 'beta is 0; expected more than 0'),
        (dict(beta=float('nan')), 'beta is nan'),
        (dict(logt=-1), 'logt is -1; expected a whole number of at least 0'),
        (dict(logt=1.5), 'logt is 1.5'),
        (dict(stride=0), 'stride is 0; expected a whole number of at least 1'),
    ],
)
def test_impossible_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        RandomWalk(**setting)


def test_scores_stay_inside_an_object():
    images = torch.full((1, 3, 32, 64), 20.0)
    images[..., 32:] = 200
    maps = torch.zeros(1, 1, 32, 64)
    maps[..., :16] = 1
    refined = RandomWalk(dict(type='ColourAffinity', radius=3), beta=8, logt=6)(images, maps)
    left, right = refined[..., :28], refined[..., 36:]
    assert left.min() > 0.3
    assert right.max() < 0.01


def test_pooling_pads_with_zeros_and_spreading_crops():
    maps = torch.ones(1, 1, 9, 16)
    pooled = pool_to_cells(maps, 8)
    torch.testing.assert_close(pooled, torch.tensor([[[[1.0, 1.0], [0.125, 0.125]]]]))
    assert spread_cells(pooled, 8, (9, 16)).shape == maps.shape


def test_maps_of_another_size_are_enlarged_first():
    images, maps = draw()
    small = maps[..., :6, :7]
    refiner = RandomWalk(ColourAffinity(radius=2), logt=1)
    large = torch.nn.functional.interpolate(small, size=images.shape[-2:], mode='bilinear')
    torch.testing.assert_close(refiner(images, small), refiner(images, large))


def test_built_from_a_config_with_an_affinity_of_the_call():
    images, maps = draw()
    refiner = REFINERS.build(dict(type='RandomWalk', logt=2))
    with pytest.raises(ValueError, match='has no affinity'):
        refiner(images, maps)
    unit = torch.eye(GRID[0] * GRID[1]).expand(2, -1, -1)
    expected = spread_cells(pool_to_cells(maps, 8), 8, images.shape[-2:])
    torch.testing.assert_close(refiner(images, maps, affinity=unit), expected)


@pytest.mark.parametrize('affinity', [torch.ones(2, 9, 9), torch.ones(20, 20).to_sparse()])
def test_affinity_of_another_grid_is_refused(affinity):
    images, maps = draw()
    with pytest.raises(ValueError, match='4 x 5 cells'):
        RandomWalk()(images, maps, affinity=affinity)
