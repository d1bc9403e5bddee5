"""No training step makes the host wait for the device.

Without a GPU the ``meta`` device takes its place: what reads a value there raises, and copies from the CPU to it are
seen.
"""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from known_syncs import KNOWN_IN_STEPS
from method_steps import METHODS, make_step
from torch.utils._python_dispatch import TorchDispatchMode

from mmwsss.ops.sampling import sampling_matrices
from mmwsss.refiners import PermutohedralLattice

DEVICE = torch.device('meta')


class BlockingCopies(TorchDispatchMode):
    """Remembers where tensors go from the CPU to ``meta`` while the host waits, by file and line of this package."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        source = args[0] if func is torch.ops.aten._to_copy.default else None
        source = args[1] if func is torch.ops.aten.copy_.default else source
        target = kwargs.get('device') or getattr(args[0], 'device', None) if source is not None else None
        if (
            target == DEVICE
            and source.device.type == 'cpu'
            and not (kwargs.get('non_blocking') or args[2:3] == (True,))
        ):
            self.found.add(_place())
        return func(*args, **kwargs)


def _place() -> str:
    frames = [frame for frame in traceback.extract_stack() if re.search(r'/(mmwsss|mmseg)/', frame.filename)]
    if not frames:
        return 'outside of both packages'
    file = re.split(r'/mmwsss/|/mmseg/models/', frames[-1].filename)[-1]
    return f'{file}:{frames[-1].name}: {frames[-1].line}'


def unknown(places: Iterable[str]) -> list[str]:
    """Those of ``places`` that have no reason."""
    return [place for place in places if place.split(': ')[0] not in KNOWN_IN_STEPS]


@pytest.fixture
def without_known_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what :data:`KNOWN_IN_STEPS` says to read values, which there are none of on ``meta``."""
    monkeypatch.setattr(torch, 'autocast', lambda *args, **kwargs: nullcontext())  # there is none for meta
    monkeypatch.setattr('mmseg.models.decode_heads.decode_head.accuracy', lambda logits, *args, **kwargs: logits.sum())
    monkeypatch.setattr('mmwsss.pseudo_labels.dynamic_threshold.search_thresholds', lambda *args, **kwargs: None)
    monkeypatch.setattr('mmwsss.refiners.par.propagate', lambda affinity, maps, *args: maps)
    monkeypatch.setattr(PermutohedralLattice, '__init__', lambda self, features: None)
    monkeypatch.setattr(PermutohedralLattice, 'filter', lambda self, values: torch.zeros_like(values))


@pytest.mark.usefixtures('without_known_waits')
@pytest.mark.parametrize('method', METHODS)
def test_a_step_reads_nothing_and_copies_without_waiting(method: str) -> None:
    step = make_step(method)
    step.model.to(DEVICE)
    sampling_matrices.cache_clear()
    with BlockingCopies() as copies:
        step.total().backward()
    sampling_matrices.cache_clear()  # its entries are of no value
    assert unknown(copies.found) == []


@pytest.mark.usefixtures('without_known_waits')
def test_reads_and_copies_are_noticed() -> None:
    with pytest.raises(RuntimeError, match='meta'):
        torch.ones(2, device=DEVICE).sum().item()
    step = make_step('cam')
    step.model.to(DEVICE)
    step.model.data_preprocessor._non_blocking = False
    with BlockingCopies() as copies:
        step.losses()
    assert unknown(copies.found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU; the tests above look for the same on meta')
@pytest.mark.parametrize('method', METHODS)
def test_a_step_on_a_gpu_waits_only_where_it_is_known(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    step = make_step(method)
    step.model.cuda()
    step.total().backward()  # what is kept for each size is made
    places = []
    monkeypatch.setattr(warnings, 'showwarning', lambda *args, **kwargs: places.append(_place()))
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('always')
            step.total().backward()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert unknown(places) == []
