"""What every config says about the loading of data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mmcv
import numpy as np
import pytest
from tiny_configs import CANONICAL, CONFIGS, LOADERS, load_config, short_id, tiny_config, write_data

from mmwsss.registry import DATASETS


@pytest.fixture(scope='module', autouse=True)
def own_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Data for the configs that read their classes from them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMWSSS_DATA_ROOT', str(write_data(tmp_path_factory.mktemp('own'), 'WeakSegDataset')))
        yield


@pytest.mark.parametrize('path', CANONICAL, ids=short_id)
def test_workers_stay_and_their_memory_is_pinned(path: Path) -> None:
    cfg = load_config(path)
    assert cfg.default_hooks.runtime_info.type == 'DeferredRuntimeInfoHook'
    for loader in (cfg[name] for name in LOADERS if cfg.get(name) is not None):
        assert loader.num_workers > 0
        assert loader.persistent_workers
        assert loader.pin_memory


TWO_VIEWS = ['vitpcm/vitpcm_vit-xt8_1xb16-600_shapes-144x144', 'cosa/cosa_vit-xt8_1xb8-600_shapes-144x144']


@pytest.mark.parametrize('config', TWO_VIEWS)
def test_an_image_is_decoded_once_for_both_views(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = CONFIGS / f'{config}.py'
    data_root = write_data(tmp_path, load_config(path).train_dataloader.dataset.type)
    dataset = DATASETS.build(tiny_config(path, data_root, tmp_path).train_dataloader.dataset)
    decoded, decode = [], mmcv.imfrombytes

    def count(content: bytes, *args, **kwargs) -> np.ndarray:
        decoded.append(content)
        return decode(content, *args, **kwargs)

    monkeypatch.setattr(mmcv, 'imfrombytes', count)
    assert {'view_1', 'view_2'} == dataset[0]['inputs'].keys()
    assert len(decoded) == 1
