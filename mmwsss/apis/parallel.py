"""Checks of what a config says about several processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device

from .errors import UsageError

WRAPPERS = ('MMDistributedDataParallel', 'MMSeparateDistributedDataParallel')
SHARDING = (
    'to share out the state of the optimizer set optim_wrapper.constructor=ShardedOptimWrapperConstructor, see '
    'docs/clusters.md'
)


def check_parallel(cfg: Config) -> None:
    """Check that processes work together in a way that the methods support.

    Raises:
        UsageError: weights are to be shared out (FSDP, strategies of mmengine's FlexibleRunner), or batch norm over all
            processes is wanted on a CPU.
    """
    wrapper = _type_name(cfg.get('model_wrapper_cfg'))
    if wrapper is not None and wrapper not in WRAPPERS:
        raise UsageError(
            f'model_wrapper_cfg.type {wrapper} is not supported: hooks, the moving average of CoSA and checkpoints '
            f'need whole weights in every process; leave model_wrapper_cfg out, {SHARDING}'
        )
    if cfg.get('runner_type') == 'FlexibleRunner' or cfg.get('strategy') is not None:
        raise UsageError(
            f'FlexibleRunner and its strategies (FSDP, DeepSpeed, ColossalAI) are not supported; leave runner_type and '
            f'strategy out, {SHARDING}'
        )
    if cfg.get('launcher', 'none') != 'none' and cfg.get('sync_bn') is not None and get_device() == 'cpu':
        raise UsageError(
            f'sync_bn={cfg.sync_bn} needs GPUs, none was found; set sync_bn=None, then each process normalises its own '
            'images'
        )


def _type_name(settings: Any) -> str | None:
    """Plain name of the ``type`` of ``settings``, given as a string with or without scope or as a class."""
    kind = settings.get('type') if isinstance(settings, Mapping) else None
    return kind.split('.')[-1] if isinstance(kind, str) else getattr(kind, '__name__', None)
