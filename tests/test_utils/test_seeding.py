import copy
import pickle
import random

import numpy as np
import pytest
import torch

from mmwsss.utils.seeding import SampleDraw, mix_seed, seeded


def draw_numbers():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_sample_draw_is_an_int_that_keeps_its_draw():
    sample = SampleDraw(7, (3, 12))
    assert sample == 7
    assert [10, 11, 12, 13, 14, 15, 16, 17][sample] == 17
    for twin in (pickle.loads(pickle.dumps(sample)), copy.deepcopy(sample)):
        assert type(twin) is SampleDraw
        assert (int(twin), twin.draw) == (7, (3, 12))


def test_wrapper_arithmetic_keeps_the_draw():
    sample = SampleDraw(7, (3, 12))
    assert (int(sample % 4), (sample % 4).draw) == (3, (3, 12))
    assert (int(sample - 5), (sample - 5).draw) == (2, (3, 12))


def test_seeded_is_repeatable_and_restores_all_states():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw_numbers()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with seeded(0, 5):
        first = draw_numbers()
    assert draw_numbers() == expected
    with seeded(0, 5):
        assert draw_numbers() == first
    with seeded(0, 6):
        assert draw_numbers() != first


def test_seeded_restores_after_an_error():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw_numbers()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with pytest.raises(ZeroDivisionError), seeded(4):
        random.seed(1 // 0)
    assert draw_numbers() == expected


def test_mix_seed_tells_similar_numbers_apart():
    keys = [(1, 2), (2, 1), (1, 2, 0), (12,), (1,), (1, 0), (2**32, 1), (0, 1)]
    mixed = {mix_seed(*key).tobytes() for key in keys}
    assert len(mixed) == len(keys)
    with pytest.raises(ValueError, match='got \\(-1,\\)'):
        mix_seed(-1)
