"""Queue and smoothing of CoSA's dynamic threshold against the official code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from vectors import close, load, tensor, vectors

from mmwsss.pseudo_labels import SearchedThreshold
from mmwsss.pseudo_labels.dynamic_threshold import smooth, write_rows_


@vectors('cosa', 'dynamic_threshold*.npz')
def test_queue(path: Path) -> None:
    data = load(path)
    queue, pointer = tensor(data['dq_init']).clone(), torch.tensor(0)
    rows, columns = queue.shape
    module = SearchedThreshold(1.0, 0.0, rows, size=(columns, 1), cell=1)
    module.queue.copy_(queue)
    steps = list(zip(data['dq_in'], data['dq_out'], data['dq_ptr']))
    assert steps
    for batch, expected, expected_pointer in steps:
        pointer = write_rows_(queue, tensor(batch), pointer)
        assert torch.equal(queue, tensor(expected))
        assert pointer == expected_pointer
        module.write(tensor(batch).float())
        assert torch.equal(module.queue, tensor(expected).float())
        assert module.pointer == expected_pointer


@vectors('cosa', 'dynamic_threshold*.npz')
def test_smoothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load(path)
    start, decay = data['ema_init'].item(), data['ema_decay'].item()
    found = iter(tensor(data['ema_in']))
    monkeypatch.setattr('mmwsss.pseudo_labels.dynamic_threshold.search_thresholds', lambda *_, **__: [next(found)] * 2)
    module = SearchedThreshold(start, start, rows=1, size=1, cell=1, decay=decay)
    value = torch.tensor(start, dtype=torch.float64)
    for new, expected in zip(tensor(data['ema_in']), tensor(data['ema_hist'])):
        value = smooth(value, new, decay)
        module.search()
        for actual in (value, module.high, module.low):
            close(actual, expected, atol=1e-9)


@vectors('cosa', 'train_dynthr*.npz')
def test_thresholds_of_a_run_follow_its_searches(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load(path)
    settings = json.loads(data['args_json'].item())
    for call, suffix in enumerate(('', '_aux')):  # the calls alternate between the two maps
        high, low = settings[f'high_thre{suffix}'], settings[f'low_thre{suffix}']
        found = iter(tensor(data['gmm_low_high_per_call'])[call::2])
        monkeypatch.setattr(
            'mmwsss.pseudo_labels.dynamic_threshold.search_thresholds', lambda *_, found=found, **__: next(found)
        )
        module = SearchedThreshold(high, low, rows=1, size=1, cell=1, decay=settings['gmmemadecay'])
        for expected in tensor(data['thresholds_high_low_per_call'])[call::2]:
            module.search()
            close(torch.stack((module.high, module.low)), expected, atol=1e-9)
