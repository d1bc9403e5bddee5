"""Poolings from patch scores (B, C, h, w) to image scores (B, C), in one registry for every head."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from mmwsss.pseudo_labels.normalize import as_single
from mmwsss.registry import POOLINGS

RULES = ('ratio', 'rel_gap', 'gap', 'fixed', 'max')
SMALLEST_SCORE = 1e-7  # keeps the relative drop after a score of 0 finite


def global_max_pool(scores: Tensor) -> Tensor:
    """Maximum over all patches of ``scores`` (B, C, h, w); tied patches share the gradient equally (ViT-PCM)."""
    return scores.amax(dim=(-2, -1))


def global_average_pool(scores: Tensor) -> Tensor:
    """Mean over all patches of ``scores`` (B, C, h, w)."""
    return scores.mean(dim=(-2, -1))


def topk_pool(scores: Tensor, k: int) -> Tensor:
    """Mean of the ``k`` best patches per class of ``scores`` (B, C, h, w); all patches where there are fewer.

    >>> import torch
    >>> topk_pool(torch.tensor([[[[0.1, 0.9], [0.5, 0.2]]]]), k=2)
    tensor([[0.7000]])
    """
    flat = scores.flatten(2)
    return flat.topk(min(k, flat.shape[-1]), dim=-1).values.mean(dim=-1)


@torch.no_grad()
def adaptive_k(
    ranked: Tensor, rule: str = 'ratio', tau: float = 0.9, kmin: int = 2, kmax: int | None = 10, k: int = 6
) -> Tensor:
    """Number K of the best patches that are pooled, for every image and class on its own (APC).

    APC lets K adapt to the ratio of, or the differences between, the scores. Its algorithm was not available: 'ratio',
    'rel_gap' and 'gap' are readings of that description, and the numbers are our choice. Scores below 0 are measured by
    magnitude.

    Args:
        ranked: (..., N) scores of the patches, best first.
        rule: 'ratio' counts the patches with at least ``tau`` times the best score, clipped to [kmin, kmax];
            'gap' ends before the largest drop s_k - s_(k+1) with k in [kmin, min(kmax, N - 1)], the first on ties;
            'rel_gap' takes this drop relative to s_k; 'fixed' takes ``k`` and 'max' 1, whatever the scores.
        tau: share of the best score, in [0, 1].
        kmin, kmax: bounds of K, included; ``kmax=None`` for N, with which 'rel_gap' tends to end in the tail of scores
            near 0.
        k: for 'fixed'.

    Returns:
        (...) int64 in [1, N], without gradient.
    """
    n = ranked.shape[-1]
    highest = n if kmax is None else min(kmax, n)
    lowest = min(kmin, highest)
    if rule == 'ratio':
        best = ranked[..., :1]
        enough = torch.where(best > 0, tau * best, (2 - tau) * best)
        return (ranked >= enough).sum(dim=-1).clamp(lowest, highest)
    highest = min(highest, n - 1)
    if rule in ('fixed', 'max') or highest <= lowest:
        number = dict(fixed=min(k, n), max=1).get(rule, lowest)
        return torch.full(ranked.shape[:-1], number, device=ranked.device)
    drops = ranked[..., lowest - 1 : highest] - ranked[..., lowest : highest + 1]
    if rule == 'rel_gap':
        drops = drops / (ranked[..., lowest - 1 : highest].abs() + SMALLEST_SCORE)
    return lowest + drops.argmax(dim=-1)


class ScorePooling(nn.Module):
    """Pooling that makes an image score from the best patches of a class, :meth:`count` of them."""

    @abstractmethod
    def count(self, ranked: Tensor) -> Tensor:
        """Number of patches (...) int64 that are pooled of scores (..., N), best first."""

    @torch.no_grad()
    def selection(self, scores: Tensor) -> Tensor:
        """Which patches are pooled, (B, C, h, w) bool, of ``scores`` (B, C, h, w)."""
        ranked, order = as_single(scores).flatten(2).sort(dim=-1, descending=True, stable=True)
        chosen = first_ranks(self.count(ranked), ranked.shape[-1])
        return torch.zeros_like(chosen).scatter_(-1, order, chosen).view_as(scores)


def first_ranks(counts: Tensor, n: int) -> Tensor:
    """Mask (..., n) of the first ``counts`` (...) entries."""
    return torch.arange(n, device=counts.device) < counts[..., None]


@POOLINGS.register_module()
class GlobalMaxPooling(ScorePooling):
    """Image score = score of the best patch."""

    def forward(self, scores: Tensor) -> Tensor:
        return global_max_pool(scores)

    def count(self, ranked: Tensor) -> Tensor:
        return adaptive_k(ranked, 'max')


@POOLINGS.register_module()
class GlobalAveragePooling(ScorePooling):
    """Image score = mean score of all patches."""

    def forward(self, scores: Tensor) -> Tensor:
        return global_average_pool(scores)

    def count(self, ranked: Tensor) -> Tensor:
        return adaptive_k(ranked, 'fixed', k=ranked.shape[-1])


@POOLINGS.register_module()
class TopKPooling(ScorePooling):
    """Image score = mean score of the ``k`` best patches (TKP-PCL).

    Raises:
        ValueError: ``k`` is below 1.
    """

    def __init__(self, k: int = 6) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f'TopKPooling needs k >= 1, got {k}')
        self.k = k

    def forward(self, scores: Tensor) -> Tensor:
        return topk_pool(scores, self.k)

    def count(self, ranked: Tensor) -> Tensor:
        return adaptive_k(ranked, 'fixed', k=self.k)

    def extra_repr(self) -> str:
        return f'k={self.k}'


@POOLINGS.register_module()
class AdaptiveKPooling(ScorePooling):
    """Image score = mean score of the K best patches, K chosen for every image and class by :func:`adaptive_k` (APC).

    Each of the K patches takes 1 / K of the gradient; none flows through the choice of K.

    Args:
        rule, tau, kmin, kmax, k: see :func:`adaptive_k`.

    Raises:
        ValueError: unknown rule, ``tau`` outside [0, 1], ``kmin`` or ``k`` below 1, or ``kmax`` below ``kmin``.

    >>> import torch
    >>> AdaptiveKPooling(tau=0.9)(torch.tensor([[[[0.9, 0.1], [0.5, 0.85]]]]))
    tensor([[0.8750]])
    """

    def __init__(self, rule: str = 'ratio', tau: float = 0.9, kmin: int = 2, kmax: int | None = 10, k: int = 6) -> None:
        super().__init__()
        if rule not in RULES:
            raise ValueError(f'AdaptiveKPooling.rule has to be one of {RULES}, got {rule!r}')
        if not 0 <= tau <= 1:
            raise ValueError(f'AdaptiveKPooling.tau has to lie between 0 and 1, got {tau}')
        if min(kmin, k) < 1 or (kmax is not None and kmax < kmin):
            raise ValueError(
                f'AdaptiveKPooling needs 1 <= kmin <= kmax and k >= 1, got kmin={kmin}, kmax={kmax}, k={k}'
            )
        self.settings = dict(rule=rule, tau=tau, kmin=kmin, kmax=kmax, k=k)

    def forward(self, scores: Tensor) -> Tensor:
        """Image scores (B, C) of ``scores`` (B, C, h, w)."""
        ranked = as_single(scores).flatten(2).sort(dim=-1, descending=True, stable=True).values  # sums overflow float16
        counts = self.count(ranked)
        pooled = torch.where(first_ranks(counts, ranked.shape[-1]), ranked, 0).sum(dim=-1) / counts
        return pooled.to(scores.dtype)

    def count(self, ranked: Tensor) -> Tensor:
        """K (...) int64 of scores (..., N), best first."""
        return adaptive_k(ranked, **self.settings)

    def extra_repr(self) -> str:
        return ', '.join(f'{name}={value!r}' for name, value in self.settings.items())
