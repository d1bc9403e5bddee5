from .config_names import find_config, list_models
from .launch import UsageError, build_runner, load_config, load_run_config, run_cli

__all__ = [
    'Prediction',
    'UsageError',
    'WSSSInferencer',
    'build_runner',
    'find_config',
    'list_models',
    'load_config',
    'load_run_config',
    'run_cli',
]


def __getattr__(name: str) -> type:
    # Late, as it imports the models, which import this package.
    if name in ('Prediction', 'WSSSInferencer'):
        from . import inferencer

        return getattr(inferencer, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
