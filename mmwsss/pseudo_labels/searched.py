"""Thresholds searched in the distribution of map values (CoSA)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def widest_float(device: torch.device) -> torch.dtype:
    """float64, or float32 on Apple's GPUs, which have nothing wider."""
    return torch.float32 if device.type == 'mps' else torch.float64


@dataclass(frozen=True)
class GaussianMixture:
    """One-dimensional Gaussian mixture, the result of :func:`fit_gaussian_mixture`.

    Args:
        weights, means, variances: (M,) in the precision of :func:`widest_float`.
        iterations: EM steps taken.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor
    iterations: int

    def log_densities(self, values: Tensor) -> Tensor:
        """Weighted log densities (M, N) of ``values`` (N,) under each component."""
        squares = (values - self.means[:, None]) ** 2 / self.variances[:, None]
        constant = self.weights.log() - 0.5 * (math.log(2 * math.pi) + self.variances.log())
        return constant[:, None] - 0.5 * squares

    def assign(self, values: Tensor) -> Tensor:
        """Component (N,) int64 in 0..M-1 that each of ``values`` (N,) most likely comes from."""
        return self.log_densities(values).argmax(dim=0)


def fit_gaussian_mixture(
    values: Tensor, means: Tensor, tolerance: float = 1e-3, max_iterations: int = 100, regularisation: float = 1e-6
) -> GaussianMixture:
    """Expectation maximisation from equal weights, unit variances and given means.

    It ends when the mean log-likelihood moves by less than ``tolerance``. From so flat a start that happens after a
    few steps, far from convergence, and the thresholds of CoSA depend on this.

    Args:
        values: (N,) of any precision; the device is waited for once in every step.
        means: (M,) means to start from.
        regularisation: added to the variances.
    """
    dtype = widest_float(values.device)
    values, means = values.to(dtype), means.to(dtype)
    mixture = GaussianMixture(torch.full_like(means, 1 / len(means)), means, torch.ones_like(means), 0)
    likelihood = values.new_tensor(-math.inf)
    for _ in range(max_iterations):
        before = likelihood
        log_densities = mixture.log_densities(values)
        total = log_densities.logsumexp(dim=0)
        likelihood = total.mean()
        mixture = _maximise(values, (log_densities - total).exp(), regularisation, mixture.iterations + 1)
        if (likelihood - before).abs() < tolerance:
            break
    return mixture


def _maximise(values: Tensor, share: Tensor, regularisation: float, iterations: int) -> GaussianMixture:
    mass = share.sum(dim=1) + 10 * torch.finfo(share.dtype).eps
    means = (share * values).sum(dim=1) / mass  # autocast would round a matrix product of float32
    variances = (share * (values - means[:, None]) ** 2).sum(dim=1) / mass + regularisation
    return GaussianMixture(mass / mass.sum(), means, variances, iterations)


def search_thresholds(
    values: Tensor, components: int = 3, floor: float = 0.05, between_means: bool = False, **settings: float
) -> tuple[Tensor, ...] | None:
    """Search the border between background and foreground in map values (CoSA, dynamic threshold).

    A mixture is fitted to the values above ``floor``, starting from their minimum, median (with three components) and
    maximum, and every value goes to its likeliest component.

    Args:
        values: any shape, map values in [0, 1], usually the best class of each pixel of many images.
        components: 3 for an ignore band, 2 for one threshold.
        between_means: look for the thresholds between the means of the first and the last component only. The official
            code does not, so that a wide component, which also wins values beyond a narrow one, can set a threshold
            that splits nothing.
        settings: arguments of :func:`fit_gaussian_mixture`.

    Returns:
        (low, high) for three components, the largest value of the first and the smallest value of the last one;
        (threshold,) for two, the largest value of the first. Each of shape (), on the values' device and in the
        precision of :func:`widest_float`.
        None where there are too few values, a component that sets a threshold won none, or, ``between_means``, the two
        are out of order: keep the old ones.

    Raises:
        ValueError: ``components`` is neither 2 nor 3.
    """
    if components not in (2, 3):
        raise ValueError(f'components is {components!r}; expected 2 (one threshold) or 3 (low and high)')
    values = values.detach().flatten().to(widest_float(values.device))
    values = values[values > floor]
    if len(values) < components:
        return None
    lowest, highest = values.aminmax()
    start = (lowest, _middle(values), highest) if components == 3 else (lowest, highest)
    mixture = fit_gaussian_mixture(values, torch.stack(start), **settings)
    assigned = mixture.assign(values)
    is_first, is_last = assigned == 0, assigned == components - 1
    if between_means:
        is_first &= values <= mixture.means[-1]
        is_last &= values >= mixture.means[0]
    low = values.masked_fill(~is_first, -math.inf).amax()
    high = values.masked_fill(~is_last, math.inf).amin()
    is_found = low.isfinite()
    if components == 3 or between_means:
        is_found &= high.isfinite()
    if between_means:
        is_found &= low <= high
    if not is_found:
        return None
    return (low,) if components == 2 else (low, high)


def _middle(values: Tensor) -> Tensor:
    """Median, the mean of the two middle values of an even number; ``torch.median`` gives the lower of them."""
    return (values.median() - (-values).median()) / 2
