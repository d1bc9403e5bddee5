from .launch import UsageError, build_runner, load_config, load_run_config, run_cli

__all__ = ['UsageError', 'build_runner', 'load_config', 'load_run_config', 'run_cli']
