"""Ways of working together that no method supports are refused before anything is built."""

from __future__ import annotations

import pytest
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from tiny_configs import CONFIGS, load_config

from mmwsss.apis import UsageError, launch
from mmwsss.apis.parallel import check_parallel


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (
            dict(model_wrapper_cfg=dict(type='MMFullyShardedDataParallel')),
            'MMFullyShardedDataParallel is not supported',
        ),
        (dict(model_wrapper_cfg=dict(type='mmengine.MMFullyShardedDataParallel')), 'need whole weights'),
        (dict(runner_type='FlexibleRunner'), 'FlexibleRunner and its strategies'),
        (dict(strategy=dict(type='FSDPStrategy')), 'optim_wrapper.constructor=ShardedOptimWrapperConstructor'),
        (dict(launcher='pytorch', sync_bn='torch'), 'sync_bn=torch needs GPUs, none was found; set sync_bn=None'),
    ],
)
def test_refused(settings: dict, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mmwsss.apis.parallel.get_device', lambda: 'cpu')
    with pytest.raises(UsageError, match=message):
        check_parallel(Config(settings))


def test_a_training_is_refused_first_of_all() -> None:
    with pytest.raises(UsageError, match='FlexibleRunner and its strategies'):
        launch.check_training(Config(dict(runner_type='FlexibleRunner')))


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_accepted(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mmwsss.apis.parallel.get_device', lambda: device)
    check_parallel(Config(dict(launcher='none', sync_bn='torch')))
    for wrapper in (MMDistributedDataParallel, 'MMDistributedDataParallel', None):
        sync_bn = None if device == 'cpu' else 'torch'
        wrapper_cfg = None if wrapper is None else dict(type=wrapper)
        check_parallel(Config(dict(launcher='pytorch', sync_bn=sync_bn, model_wrapper_cfg=wrapper_cfg)))


def test_no_shipped_config_looks_for_unused_weights() -> None:
    for path in sorted(CONFIGS.rglob('*.py')):
        assert 'find_unused_parameters' not in path.read_text(encoding='utf-8'), path
    assert load_config(CONFIGS / 'vitpcm_shapes.py').get('find_unused_parameters') is None
