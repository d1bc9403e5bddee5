import pytest
import torch
import torch.nn.functional as F

from mmwsss.pseudo_labels.views import (
    FusionRule,
    group_by_size,
    half_pixel,
    iter_views,
    multi_view,
    rescale_bilinear,
    run_in_batches,
    scaled_size,
)


class Recorder:
    """Network that averages 2 x 2 cells and weights columns, so that a flip is not the same image."""

    def __init__(self):
        self.shapes = []

    def __call__(self, images):
        self.shapes.append(tuple(images.shape))
        maps = F.avg_pool2d(images, 2)
        maps = maps * torch.linspace(-1, 2, maps.shape[-1])
        return {'maps': maps, 'scores': maps.amax((2, 3))}


@pytest.fixture
def images():
    return torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))


def views_by_hand(images, scales):
    """(S, F, B, C, H, W) maps and (S, F, B, C) scores, one view after the other."""
    maps, scores = [], []
    for scale in scales:
        x = half_pixel(images, tuple(int(scale * side) for side in images.shape[-2:])) if scale != 1 else images
        pair = [Recorder()(x), Recorder()(x.flip(-1))]
        pair[1]['maps'] = pair[1]['maps'].flip(-1)
        maps.append(torch.stack([half_pixel(view['maps'], images.shape[-2:]) for view in pair]))
        scores.append(torch.stack([view['scores'] for view in pair]))
    return torch.stack(maps), torch.stack(scores)


@pytest.mark.parametrize('flips', ['sum', 'mean', 'max'])
@pytest.mark.parametrize('relu', [None, 'before', 'after'])
@pytest.mark.parametrize('scales', ['sum', 'mean', 'max', 'last'])
def test_fusion_equals_views_one_by_one(images, flips, relu, scales):
    factors = (1.0, 0.5, 1.5)
    maps, scores = views_by_hand(images, factors)
    reduce = {
        'sum': lambda x: x.sum(0),
        'mean': lambda x: x.mean(0),
        'max': lambda x: x.amax(0),
        'last': lambda x: x[-1],
    }

    def expected(values):
        values = values.relu() if relu == 'before' else values
        values = torch.stack([reduce[flips](value) for value in values])
        return reduce[scales](values.relu() if relu == 'after' else values)

    fused = multi_view(Recorder(), images, factors, FusionRule(flips, scales, relu))
    torch.testing.assert_close(fused['maps'], expected(maps), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fused['scores'], expected(scores), atol=1e-5, rtol=1e-5)


def test_an_image_and_its_flip_share_a_batch(images):
    network = Recorder()
    multi_view(network, images, (1.0, 0.5), FusionRule())
    assert network.shapes == [(4, 3, 8, 12), (4, 3, 4, 6)]
    network = Recorder()
    views = list(iter_views(network, images, (1.0, 0.5), flip=[False, True]))
    assert network.shapes == [(2, 3, 8, 12), (4, 3, 4, 6)]
    assert [(scale, tuple(output['maps'].shape)) for scale, output in views] == [
        (1.0, (1, 2, 3, 4, 6)),
        (0.5, (2, 2, 3, 2, 3)),
    ]
    plain, flipped = views[1][1]['maps']
    alone = Recorder()(rescale_bilinear(images, 0.5).flip(-1))['maps'].flip(-1)
    assert torch.equal(flipped, alone)
    assert not torch.allclose(plain, flipped)


def test_max_batch_changes_the_calls_only(images):
    network = Recorder()
    fused = multi_view(network, images, (1.0,), FusionRule(), max_batch=3)
    assert [shape[0] for shape in network.shapes] == [3, 1]
    assert torch.equal(fused['maps'], multi_view(Recorder(), images, (1.0,), FusionRule())['maps'])
    with pytest.raises(ValueError, match='max_batch has to be at least 1, got 0'):
        run_in_batches(network, images, 0)


def test_tensors_tuples_and_dropped_outputs(images):
    alone = multi_view(lambda x: x, images, (1.0,), FusionRule())
    torch.testing.assert_close(alone, images)
    pair = multi_view(lambda x: (x, x.amax((2, 3))), images, (1.0,), {1: FusionRule('sum', 'sum')}, max_batch=1)
    assert list(pair) == [1]
    torch.testing.assert_close(pair[1], 2 * images.amax((2, 3)))
    assert run_in_batches(lambda x: (x, x.mean((2, 3))), images, 1)[1].shape == (2, 3)


def test_size_of_the_result_and_rule_of_resizing(images):
    fused = multi_view(lambda x: x, images, (0.5,), FusionRule(), (5, 7), resize=F.adaptive_avg_pool2d)
    assert fused.shape == (2, 3, 5, 7)
    expected = F.adaptive_avg_pool2d(half_pixel(images, (4, 6)), (5, 7))
    torch.testing.assert_close(fused, expected)


def test_mistakes_are_named(images):
    with pytest.raises(ValueError, match=r"FusionRule\.scales has to be one of .*'median'"):
        FusionRule(scales='median')
    with pytest.raises(ValueError, match='no view to fuse'):
        multi_view(Recorder(), images, (), FusionRule())
    with pytest.raises(ValueError, match="no output 'seg' to fuse; the network returns 'maps', 'scores'"):
        multi_view(Recorder(), images, (1.0,), {'seg': FusionRule()})
    with pytest.raises(ValueError, match='one for each scale, got 1'):
        list(iter_views(Recorder(), images, (1.0, 2.0), flip=[True]))


def test_scaled_sizes():
    assert scaled_size((9, 13), 0.5) == (4, 6)
    assert scaled_size((64, 48), 1.3, 16) == (80, 64)
    assert scaled_size((16, 16), 0.1, 16) == (16, 16)
    images = torch.rand(1, 3, 9, 13)
    assert rescale_bilinear(images, 1, 16) is images  # the network's own input, whatever its size


def test_images_of_equal_size_are_stacked():
    images = [torch.full((3, *size), float(i)) for i, size in enumerate([(4, 6), (6, 4), (4, 6)])]
    groups = group_by_size(images)
    assert [(positions, tuple(batch.shape)) for positions, batch in groups] == [
        ([0, 2], (2, 3, 4, 6)),
        ([1], (1, 3, 6, 4)),
    ]
    assert torch.equal(groups[0][1][1], images[2])
