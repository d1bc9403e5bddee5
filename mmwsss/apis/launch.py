"""What the command line tools share: arguments, reading a config, and checks that come before long work."""

from __future__ import annotations

import argparse
import atexit
import difflib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmwsss.datasets.checks import DatasetError
from mmwsss.engine.loops import BEST_STREAM, DEFAULT_SELECT

from .checkpoints import find_checkpoint, latest_checkpoint
from .errors import UsageError

# Keys the runner reads from the config besides its own arguments; absent ones may be set on the command line too.
_RUNNER_KEYS = (
    'activation_checkpointing', 'compile', 'custom_imports', 'detect_anomalous_params', 'efficient_conv_bn_eval',
    'find_unused_parameters', 'model_wrapper_cfg', 'runner_type', 'sync_bn', 'tta_model', 'tta_pipeline',
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """ArgumentParser whose errors are :class:`UsageError`."""

    def error(self, message: str) -> None:
        raise UsageError(f'{message}; see {self.prog} --help')


class OptionsAction(DictAction):
    """mmengine's KEY=VALUE parsing with a clear error for an argument that is none."""

    def __call__(self, parser, namespace, values, option_string=None):
        for value in values:
            key, found, _ = value.partition('=')
            if not (key and found):
                raise argparse.ArgumentError(self, f'"{value}" is not of the form key=value')
        try:
            super().__call__(parser, namespace, values, option_string)
        except (AssertionError, ValueError) as error:
            raise argparse.ArgumentError(self, f'cannot read {" ".join(values)}: {error}') from error


def run_cli(main: Callable[[], None]) -> None:
    """Run ``main``; a mistake of the user ends the program with status 2 and a message instead of a traceback,
    which names the process where it is not the first.

    Processes of a distributed run wait for each other at the end and leave without the interpreter's teardown, in which
    threads of the process group that something still refers to can abort a run that is complete.
    """
    try:
        main()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()
            _leave()
    except (UsageError, DatasetError) as error:
        rank = _env_rank()
        print(f'error{f" on rank {rank}" if rank else ""}: {error}', file=sys.stderr, flush=True)
        sys.exit(2)


def _leave() -> None:
    """End this process with status 0 after its exit handlers, without destroying what the interpreter holds."""
    atexit._run_exitfuncs()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``config`` and ``--cfg-options``."""
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        metavar='KEY=VALUE',
        help='override settings of the config, for example train_cfg.max_iters=100 "model.head.scales=[1,2]"',
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--work-dir``, ``--launcher`` and ``--local-rank``."""
    parser.add_argument('--work-dir', help='folder of logs and checkpoints (default: ./work_dirs/<name of the config>)')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')


def load_config(path: str, options: Mapping[str, Any] | None = None) -> Config:
    """Read the config at ``path`` and merge ``options`` (dotted keys) into it.

    Raises:
        UsageError: the file or one of its bases is missing, or an option names a key that does not exist.
    """
    if not os.path.isfile(path):
        folder = Path(path).parent
        names = [entry.name for entry in folder.glob('*.py')] if folder.is_dir() else []
        raise UsageError(f'config {path} does not exist{_nearest(Path(path).name, names)}')
    try:
        cfg = Config.fromfile(path)
    except OSError as error:
        raise UsageError(f'cannot read config {path}: {error}') from error
    if options:
        _check_options(cfg, options)
        try:
            cfg.merge_from_dict(dict(options))
        except (KeyError, TypeError, IndexError) as error:
            raise UsageError(f'cannot apply --cfg-options to {path}: {error}') from error
    return cfg


def load_run_config(args: argparse.Namespace) -> Config:
    """Config of a run from parsed arguments: launcher and work_dir set, environment of the launcher prepared.

    Raises:
        UsageError: see :func:`load_config`; or the launcher does not run without a GPU.
    """
    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('.', 'work_dirs', Path(args.config).stem)
    if cfg.launcher != 'none' and get_device() == 'cpu':
        _distribute_on_cpu(cfg)
    return cfg


def enable_amp(cfg: Config) -> None:
    """Turn on mixed precision: mmengine's ``AmpOptimWrapper`` with dynamic loss scale on a GPU, bfloat16 on a CPU.

    Raises:
        UsageError: the config uses another wrapper.
    """
    name = _type_name(cfg.optim_wrapper.get('type', 'OptimWrapper'))
    if name in ('AmpOptimWrapper', 'BFloat16OptimWrapper'):
        return
    if name != 'OptimWrapper':
        raise UsageError(f'--amp needs optim_wrapper.type OptimWrapper, the config has {name}; leave out --amp')
    if get_device() in ('cpu', 'mps'):
        cfg.optim_wrapper.type = 'BFloat16OptimWrapper'
        return
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def set_resume(cfg: Config, resume: str) -> None:
    """Let ``cfg`` resume from the checkpoint ``resume``, or with 'auto' from the latest one of its work_dir if any.

    Raises:
        UsageError: the checkpoint is missing.
    """
    checkpoint = latest_checkpoint(cfg.work_dir) if resume == 'auto' else find_checkpoint(resume, '--resume')
    cfg.resume = checkpoint is not None
    if checkpoint is not None:
        cfg.load_from = checkpoint
    elif _env_rank() == 0:
        print(f'--resume: no checkpoint in {cfg.work_dir} yet, training starts at iteration 0', file=sys.stderr)


def check_training(cfg: Config) -> None:
    """Check what would otherwise fail only after data and model were built.

    Raises:
        UsageError: mixed precision without a GPU, a file of weights that is not there, or the best checkpoint is to be
            kept by a score that validation does not make.
    """
    if _type_name(cfg.optim_wrapper.get('type')) == 'AmpOptimWrapper' and get_device() in ('cpu', 'mps'):
        raise UsageError(
            'AmpOptimWrapper of mmengine needs a GPU, none was found; set optim_wrapper.type=BFloat16OptimWrapper'
        )
    if cfg.get('load_from') is not None:
        cfg.load_from = find_checkpoint(cfg.load_from, 'load_from')
    for key, path in _pretrained_files(cfg.model, 'model'):
        find_checkpoint(path, key)
    _check_best_stream(cfg)


def build_runner(cfg: Config) -> Runner:
    """Runner of ``cfg``, of the registered ``runner_type`` if the config names one."""
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def _check_options(cfg: Config, options: Mapping[str, Any]) -> None:
    known = {*cfg.keys(), *_RUNNER_KEYS, *inspect.signature(Runner.__init__).parameters} - {'self', 'cfg'}
    for key in options:
        first = key.split('.')[0]
        if first not in known:
            raise UsageError(f'--cfg-options {key}: the config has no "{first}"{_nearest(first, known)}')


def _nearest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(names), n=3)
    return f'; nearest: {", ".join(close)}' if close else ''


def _pretrained_files(node: Any, key: str) -> Iterator[tuple[str, str]]:
    """Dotted keys and paths of the weights that ``init_cfg`` entries below ``node`` name."""
    if isinstance(node, Mapping):
        if node.get('type') == 'Pretrained' and isinstance(node.get('checkpoint'), str):
            yield f'{key}.checkpoint', node['checkpoint']
        for name, child in node.items():
            yield from _pretrained_files(child, f'{key}.{name}')
    elif isinstance(node, list | tuple):
        for index, child in enumerate(node):
            yield from _pretrained_files(child, f'{key}.{index}')


def _check_best_stream(cfg: Config) -> None:
    """Raise UsageError where ``save_best`` names a score of TwoStreamValLoop that it is not set up to make."""
    wanted = (cfg.get('default_hooks', {}).get('checkpoint') or {}).get('save_best') or ()
    loop = cfg.get('val_cfg') or {}
    select = loop.get('select', DEFAULT_SELECT)
    known = [select] if isinstance(select, str) else list(select)
    for score in [wanted] if isinstance(wanted, str) else wanted:
        prefix, _, name = score.partition('/')
        if prefix != BEST_STREAM:
            continue
        if _type_name(loop.get('type')) != 'TwoStreamValLoop':
            raise UsageError(f'default_hooks.checkpoint.save_best {score} needs val_cfg.type=TwoStreamValLoop')
        if name not in known:
            raise UsageError(
                f'default_hooks.checkpoint.save_best {score}: val_cfg.select has no {name}, only {", ".join(known)}; '
                'add it there'
            )


def _distribute_on_cpu(cfg: Config) -> None:
    """Join the gloo process group of torchrun; mmengine's own start selects a CUDA device in every case."""
    if cfg.launcher != 'pytorch':
        raise UsageError(f'--launcher {cfg.launcher} needs a GPU, none was found; --launcher pytorch also runs on CPU')
    if 'RANK' not in os.environ:
        raise UsageError('--launcher pytorch needs the environment of torchrun; start it through tools/dist_train.sh')
    wrapper = {'type': 'MMDistributedDataParallel', 'broadcast_buffers': False}
    wrapper['find_unused_parameters'] = cfg.get('find_unused_parameters', False)
    cfg.model_wrapper_cfg = {**cfg.get('model_wrapper_cfg', wrapper), 'device_ids': None}
    if not torch.distributed.is_initialized():
        seconds = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
        settings = {} if seconds is None else {'timeout': timedelta(seconds=seconds)}
        torch.distributed.init_process_group('gloo', **settings)


def _env_rank() -> int:
    """Rank of this process as the launcher announces it."""
    names = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')
    return int(next((os.environ[name] for name in names if name in os.environ), 0))


def _type_name(value: Any) -> str | None:
    """Plain name of a config's ``type``, given as a string with or without scope or as a class."""
    return value.split('.')[-1] if isinstance(value, str) else getattr(value, '__name__', None)
