"""A tiny model in files, and the inferencer of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tiny_inference import write_model

from mmwsss.apis import WSSSInferencer


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return write_model(tmp_path_factory.mktemp('inference'))


@pytest.fixture(scope='module')
def inferencer(files: SimpleNamespace) -> WSSSInferencer:
    return WSSSInferencer(files.cfg, files.weights, 'cpu', batch_size=2)
