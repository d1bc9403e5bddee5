import threading

import pytest
import torch

from mmwsss.refiners import cpu_lattice, par, threads


@pytest.fixture
def ranges(monkeypatch):
    """Ranges, and the threads they ran in, that ``share`` makes of its arguments with three threads."""
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 3)

    def run(share, count, **options):
        seen = []
        share(lambda mark, *pair: seen.append((mark, *pair, threading.get_ident())), count, 'x', **options)
        assert {entry[0] for entry in seen} == {'x'}
        return sorted(entry[1:3] for entry in seen)

    return run


def test_ranges_make_up_the_whole(ranges):
    assert ranges(threads.share, 10) == [(0, 3), (3, 6), (6, 10)]
    assert ranges(threads.share, 2) == [(0, 1), (1, 2)]
    assert ranges(threads.share, 0) == [(0, 0)]
    assert ranges(threads.share, 10, small=10) == [(0, 10)]
    assert ranges(threads.share, 11, small=10) == [(0, 3), (3, 7), (7, 11)]


def test_few_points_of_a_lattice_stay_in_one_thread(ranges):
    assert ranges(cpu_lattice.share, cpu_lattice.SMALL) == [(0, cpu_lattice.SMALL)]
    assert len(ranges(cpu_lattice.share, cpu_lattice.SMALL + 1)) == 3


def test_results_come_in_order_and_errors_come_through():
    assert threads.each(lambda base, parts, part: base + part / parts, 4, 10) == [10, 10.25, 10.5, 10.75]
    for bad in (0, 1):
        with pytest.raises(ZeroDivisionError):
            threads.each(lambda parts, part, bad=bad: 1 / (part - bad), 2)


def test_one_pool_serves_all_refiners():
    assert par.share is cpu_lattice.share.func is threads.share
    names = threads.each(lambda parts, part: threading.current_thread().name, 2)
    assert names[1].startswith('refiner')
    assert threads._pool() is threads._pool()
