import math

import pytest
import torch

from mmwsss.models.losses import perplexity, reliability_weights
from mmwsss.registry import MODELS


def test_perplexity_by_hand_on_both_sides():
    values = torch.tensor([1.0, 0.7, 0.2, 0.0], dtype=torch.float64)
    result = perplexity(values, 0.4, scale=0.9, power=2.0)
    expected = [math.log(0.9 * d) ** 2 for d in (1, 0.5, 0.5, 1)]
    assert result.tolist() == pytest.approx(expected)


def test_perplexity_is_finite_and_largest_at_the_threshold():
    values = torch.linspace(0, 1, 101)
    for threshold in (0.0, 0.44, 1.0, torch.tensor(0.44)):
        result = perplexity(values, threshold)
        assert torch.isfinite(result).all()
        assert result.min() > 0.1
        nearest = (values - threshold).abs().argmin()
        assert result[nearest] == result.max()
        assert result.max() == pytest.approx(-math.log(0.9e-6), rel=1e-3)
        assert 1 / result.min() == pytest.approx(9.49, rel=1e-3)


def test_values_beyond_the_range_stay_finite():
    assert torch.isfinite(perplexity(torch.tensor([-0.5, 1.2]), 0.4)).all()


def test_weights_have_mean_one_in_each_part_of_each_image():
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(3, 6, 7, generator=generator)
    mask = torch.randint(3, (3, 6, 7), generator=generator)
    mask[:, 0] = 255
    mask[1, 1:] = 0
    weights = reliability_weights(confidence, mask, 0.45)
    assert weights.shape == mask.shape
    assert not weights[mask == 255].any()
    for image in range(3):
        for part in (mask[image] == 0, (mask[image] > 0) & (mask[image] != 255)):
            if part.any():
                assert weights[image][part].mean().item() == pytest.approx(1, rel=1e-5)
                inverse = 1 / perplexity(confidence[image][part], 0.45)
                torch.testing.assert_close(weights[image][part], inverse / inverse.mean())
    assert weights.max() / weights[weights > 0].min() < 140


def test_empty_parts_and_constant_maps_are_finite():
    confidence = torch.full((2, 3, 3), 0.4)
    mask = torch.full((2, 3, 3), 255)
    assert not reliability_weights(confidence, mask, 0.4).any()
    mask[0] = 2
    weights = reliability_weights(confidence, mask, 0.4)
    assert weights[0].allclose(torch.ones(3, 3))
    assert not weights[1].any()


def test_config_names_the_weights():
    weigh = MODELS.build(dict(type='ReliabilityWeights', scale=0.8, power=2.0))
    confidence, mask = torch.rand(1, 4, 4, requires_grad=True), torch.randint(2, (1, 4, 4))
    weights = weigh(confidence.half(), mask, torch.tensor(0.5))
    assert weights.dtype == torch.float32
    assert not weights.requires_grad
    torch.testing.assert_close(weigh(confidence, mask, 0.5), reliability_weights(confidence, mask, 0.5, 0.8, 2.0))
    torch.testing.assert_close(weigh.perplexity(confidence, 0.5), perplexity(confidence, 0.5, 0.8, 2.0))


@pytest.mark.parametrize('scale', [0.0, 1.0, -1.0])
def test_scale_must_bound_the_weights(scale):
    with pytest.raises(ValueError, match='scale'):
        MODELS.build(dict(type='ReliabilityWeights', scale=scale))
