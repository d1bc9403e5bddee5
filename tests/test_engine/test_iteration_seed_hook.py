"""Dropout as a function of seed, iteration and rank."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from mmwsss.engine.hooks import IterationSeedHook, iteration_seed_hook


def noise(seed: int, iteration: int) -> torch.Tensor:
    IterationSeedHook().before_train_iter(SimpleNamespace(seed=seed, iter=iteration), 0)
    return torch.rand(4)


def test_noise_depends_on_seed_and_iteration_only() -> None:
    first = noise(3, 5)
    torch.rand(10)
    assert torch.equal(noise(3, 5), first)
    assert not torch.equal(noise(3, 6), first)
    assert not torch.equal(noise(4, 5), first)


def test_ranks_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    first = noise(3, 5)
    monkeypatch.setattr(iteration_seed_hook, 'get_rank', lambda: 1)
    assert not torch.equal(noise(3, 5), first)


def test_large_seeds() -> None:
    assert noise(2**32 - 1, 10**7).shape == (4,)


def test_it_comes_before_the_other_hooks(make_runner) -> None:
    runner = make_runner(1, custom_hooks=[dict(type='EmptyCacheHook')])
    names = [type(hook).__name__ for hook in runner.hooks]
    assert names.index('IterationSeedHook') < names.index('EmptyCacheHook')
