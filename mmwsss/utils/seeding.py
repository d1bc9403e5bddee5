"""Randomness of one sample as a pure function of its place in the run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


class SampleDraw(int):
    """Dataset index that carries ``draw = (seed, position)``, the numbers from which its augmentation is seeded.

    It is an ``int`` everywhere else and survives pickling. ``idx % n`` and ``idx - offset``, with which dataset
    wrappers find the item of the wrapped dataset, keep the draw.

    >>> SampleDraw(7, (0, 12)).draw, SampleDraw(7, (0, 12)) + 1
    ((0, 12), 8)
    """

    draw: tuple[int, ...]

    def __new__(cls, index: int, draw: tuple[int, ...]) -> SampleDraw:
        sample = super().__new__(cls, index)
        sample.draw = tuple(int(number) for number in draw)
        return sample

    def __getnewargs__(self) -> tuple[int, tuple[int, ...]]:
        return int(self), self.draw

    def __mod__(self, other: int) -> SampleDraw:
        return SampleDraw(int(self) % other, self.draw)

    def __sub__(self, other: int) -> SampleDraw:
        return SampleDraw(int(self) - other, self.draw)

    def __repr__(self) -> str:
        return f'SampleDraw({int(self)}, draw={self.draw})'


def mix_seed(*numbers: int, words: int = 4) -> np.ndarray:
    """Mix integers in [0, 2**64) into ``words`` well spread numbers, uint32 (words,).

    Raises:
        ValueError: a number is negative or does not fit in 64 bits.
    """
    if any(not 0 <= number < 2**64 for number in numbers):
        raise ValueError(f'seeds must be integers in [0, 2**64), got {numbers}')
    # SeedSequence pads with zeros, so (1, 2) would equal (1, 2, 0), and splits long integers: hence count and width.
    entropy = [len(numbers)]
    for number in numbers:
        entropy += [int(number) & 0xFFFFFFFF, int(number) >> 32]
    return np.random.SeedSequence(entropy).generate_state(words)


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Seed ``random``, ``numpy.random`` and torch's CPU generator from ``numbers``; restore all states on leaving.

    Raises:
        ValueError: a number is negative or does not fit in 64 bits.
    """
    words = mix_seed(*numbers, words=8)
    # torch.manual_seed would also reseed every GPU, which is not restored here.
    generator = torch.default_generator
    states = random.getstate(), np.random.get_state(), generator.get_state()
    try:
        random.seed(words[:4].tobytes())
        np.random.seed(words[4:6])
        generator.manual_seed(int(words[6]) << 31 ^ int(words[7]))
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        generator.set_state(states[2])
