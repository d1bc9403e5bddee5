import sys

import pytest
import torch

from mmwsss.refiners import backends, par, permutohedral
from mmwsss.refiners.backends import check_backend, choose_backend, compiled_kernels


def test_numba_serves_the_cpu_and_torch_the_rest():
    cpu, other = torch.device('cpu'), torch.device('meta')
    assert [choose_backend(name, cpu) for name in backends.BACKENDS] == ['numba', 'torch', 'numba']
    assert [choose_backend(name, other) for name in ('auto', 'torch')] == ['torch', 'torch']
    with pytest.raises(ValueError, match="'numba' needs tensors on the CPU, these are on meta"):
        choose_backend('numba', other)


@pytest.mark.parametrize('check', [check_backend, lambda name: choose_backend(name, torch.device('cpu'))])
def test_unknown_names_are_refused(check):
    with pytest.raises(ValueError, match="backend 'cuda' is none of auto, torch, numba"):
        check('cuda')


def test_missing_numba_is_named(monkeypatch):
    assert compiled_kernels('par_kernels', 'This').propagate_rows
    monkeypatch.setitem(sys.modules, 'numba', None)
    monkeypatch.delitem(sys.modules, 'mmwsss.refiners.par_kernels')
    with pytest.raises(ImportError, match=r"This on the CPU needs numba .*; install it or set backend='torch'"):
        compiled_kernels('par_kernels', 'This')


def test_all_refiners_choose_by_the_same_rule():
    assert par.choose_backend is permutohedral.choose_backend is choose_backend
