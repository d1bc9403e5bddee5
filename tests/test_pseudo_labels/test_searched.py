"""Thresholds searched by a Gaussian mixture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmwsss.pseudo_labels import fit_gaussian_mixture, search_thresholds
from mmwsss.pseudo_labels.labeler import LabelState
from mmwsss.registry import PSEUDO_LABEL_STEPS


def bimodal(seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    values = np.concatenate((rng.normal(0.15, 0.05, 800), rng.normal(0.5, 0.05, 500), rng.normal(0.9, 0.04, 600)))
    return torch.from_numpy(values.clip(0, 1))


@pytest.mark.parametrize('components', [2, 3])
@pytest.mark.parametrize('settings', [{}, dict(tolerance=1e-9, max_iterations=300), dict(max_iterations=2)])
def test_mixture_matches_scikit_learn(components: int, settings: dict) -> None:
    mixture_module = pytest.importorskip('sklearn.mixture')
    values = bimodal()
    start = values.quantile(torch.linspace(0, 1, components, dtype=torch.float64))
    ours = fit_gaussian_mixture(values, start, **settings)
    theirs = mixture_module.GaussianMixture(
        components,
        weights_init=np.full(components, 1 / components),
        means_init=start.numpy()[:, None],
        precisions_init=np.ones((components, 1, 1)),
        tol=settings.get('tolerance', 1e-3),
        max_iter=settings.get('max_iterations', 100),
    ).fit(values.numpy()[:, None])
    assert ours.iterations == theirs.n_iter_
    np.testing.assert_allclose(ours.means, theirs.means_[:, 0], atol=1e-9)
    np.testing.assert_allclose(ours.variances, theirs.covariances_[:, 0, 0], atol=1e-9)
    np.testing.assert_allclose(ours.weights, theirs.weights_, atol=1e-9)
    assert (ours.assign(values).numpy() == theirs.predict(values.numpy()[:, None])).all()


def test_converged_thresholds_lie_between_the_modes() -> None:
    low, high = search_thresholds(bimodal(), tolerance=1e-9, max_iterations=1000)
    assert 0.25 < low < 0.4
    assert 0.65 < high < 0.85
    (threshold,) = search_thresholds(bimodal(), components=2, tolerance=1e-9, max_iterations=1000)
    assert 0.15 < threshold < 0.85
    assert (low.shape, low.dtype) == ((), torch.float64)


def test_shape_precision_and_order_of_the_values_do_not_matter() -> None:
    values = bimodal().float().half()
    shuffled = values[torch.randperm(len(values))].reshape(19, -1)
    for one, other in zip(search_thresholds(values.double()), search_thresholds(shuffled)):
        torch.testing.assert_close(one, other)


def test_values_below_the_floor_do_not_count() -> None:
    values = bimodal()
    noise = torch.cat((values, torch.full((5000,), 0.05, dtype=torch.float64)))
    assert search_thresholds(noise) == search_thresholds(values)


@pytest.mark.parametrize('count', [3, 4, 1000, 1001])
def test_the_middle_component_starts_at_the_median(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = []
    fit = fit_gaussian_mixture
    monkeypatch.setattr(
        'mmwsss.pseudo_labels.searched.fit_gaussian_mixture',
        lambda values, means, **settings: starts.append(means) or fit(values, means, **settings),
    )
    values = bimodal()[torch.randperm(1900, generator=torch.Generator().manual_seed(4))[:count]].clamp(min=0.06)
    search_thresholds(values)
    expected = (values.min().item(), np.median(values.numpy()), values.max().item())
    assert tuple(starts[0].tolist()) == expected


@pytest.mark.parametrize('components', [2, 3])
@pytest.mark.parametrize('values', [torch.zeros(10), torch.tensor([0.5]), torch.empty(0)])
def test_too_few_values_give_no_threshold(values: torch.Tensor, components: int) -> None:
    assert search_thresholds(values, components) is None


def test_a_component_without_values_gives_no_threshold() -> None:
    assert search_thresholds(torch.full((50,), 0.5), components=3) is None


def test_another_number_of_components_is_refused() -> None:
    with pytest.raises(ValueError, match='components is 4'):
        search_thresholds(bimodal(), components=4)


def bimodal_state(**fields: object) -> LabelState:
    """One class in two of three channels, a low and a high mode; the excluded third channel would win everywhere."""
    generator = torch.Generator().manual_seed(3)
    values = 0.2 + 0.03 * torch.randn(2, 24, 32, generator=generator)
    values[:, 8:] += 0.5
    maps = torch.stack((values, torch.zeros_like(values), torch.ones_like(values)), dim=1)
    return LabelState(maps, False, (24, 32), labels=torch.tensor([[1.0, 1, 0]] * 2), **fields)


@pytest.mark.parametrize('components', [2, 3])
def test_searched_mask_splits_the_modes(components: int) -> None:
    state = bimodal_state()
    out = PSEUDO_LABEL_STEPS.build(dict(type='SearchedMask', components=components))(state)
    assert (out.mask[:, 8:] == 1).float().mean() > 0.9
    assert (out.mask[:, :8] != 1).float().mean() > 0.9
    assert set(out.mask.unique().tolist()) <= ({0, 1} if components == 2 else {0, 1, 255})
    assert out.bg_setting is None


def test_searched_mask_falls_back_to_its_arguments() -> None:
    maps = torch.tensor([0.02, 0.04, 0.03, 0.01])[None, None, None]  # nothing above the floor
    state = LabelState(maps, False, (1, 4))
    with pytest.raises(ValueError, match='above high'):
        PSEUDO_LABEL_STEPS.build(dict(type='SearchedMask', high=0.03, low=0.25))
    mask = PSEUDO_LABEL_STEPS.build(dict(type='SearchedMask', high=0.035, low=0.01))(state).mask
    assert mask.tolist() == [[[0, 1, 0, 0]]]
    mask = PSEUDO_LABEL_STEPS.build(dict(type='SearchedMask', components=3, high=0.035, low=0.01))(state).mask
    assert mask.tolist() == [[[255, 1, 255, 0]]]


@pytest.mark.parametrize('components', [2, 3])
def test_a_wide_component_does_not_set_a_threshold_beyond_a_narrow_one(components: int) -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate((rng.uniform(0.06, 1, 3000), rng.normal(0.8, 0.01, 10000))).clip(0, 1)
    values = torch.from_numpy(values)
    official = search_thresholds(values, components)
    assert official[0] > official[-1] if components == 3 else official[0] > 0.99
    found = search_thresholds(values, components, between_means=True)
    assert found is None or found[0] <= found[-1] < 0.85
