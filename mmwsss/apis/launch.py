"""What the command line tools share: arguments, reading a config, and checks that come before long work."""

from __future__ import annotations

import argparse
import inspect
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmwsss.engine.loops import BEST_STREAM, DEFAULT_SELECT
from mmwsss.engine.preemption import watched_signals
from mmwsss.utils.files import locked

from .checkpoints import check_checkpoint, check_resumable, find_checkpoint, resumable_checkpoint
from .commands import for_installation
from .config_names import find_config, nearest
from .ending import env_rank
from .ending import run_cli as run_cli  # the tools take it from here
from .errors import UsageError, explained
from .parallel import check_parallel

# Keys the runner reads from the config besides its own arguments; absent ones may be set on the command line too.
_RUNNER_KEYS = (
    'activation_checkpointing', 'compile', 'custom_imports', 'detect_anomalous_params', 'efficient_conv_bn_eval',
    'find_unused_parameters', 'model_wrapper_cfg', 'runner_type', 'sync_bn', 'tta_model', 'tta_pipeline',
)  # fmt: skip
PORT_STEP = 100  # between the ports of a job that is started again and again


class Parser(argparse.ArgumentParser):
    """ArgumentParser whose errors are :class:`UsageError`, and whose help shows commands as they are installed."""

    def __init__(self, *, description: str = '', **kwargs: Any) -> None:
        name = sys.argv[0] if sys.argv[0].startswith('mmwsss ') else None  # argparse would leave out what is before a /
        super().__init__(prog=name, description=for_installation(description), **kwargs)

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


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``config`` and ``--cfg-options``."""
    parser.add_argument('config', help='config file, or the name of a shipped one (see mmwsss list)')
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
    """Read the config at ``path``, a file or a name of :func:`~mmwsss.apis.config_names.find_config`, and merge
    ``options`` (dotted keys) into it. Data loaders with ``num_workers=0`` lose settings of worker processes.

    Raises:
        UsageError: the file or one of its bases is missing, or an option names a key that does not exist.
    """
    path = find_config(path)
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
    for loader in (cfg.get(f'{phase}_dataloader') for phase in ('train', 'val', 'test')):
        if loader is not None and loader.get('num_workers') == 0:  # torch refuses what is about worker processes
            for key in ('persistent_workers', 'prefetch_factor'):
                loader.pop(key, None)
    return cfg


def load_run_config(args: argparse.Namespace) -> Config:
    """Config of a run from parsed arguments: launcher and work_dir set, environment of the launcher prepared.

    Raises:
        UsageError: see :func:`load_config`; or the launcher does not run without a GPU.
    """
    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    _leave_old_store()
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


def set_resume(cfg: Config, resume: str | None) -> None:
    """Let ``cfg`` resume from the checkpoint ``resume``, or with 'auto' from the latest one of its work_dir if any.

    Raises:
        UsageError: the checkpoint is missing or damaged, with 'auto' all of them; or the launcher restarts processes
            that would begin from the first iteration.
    """
    if int(os.environ.get('TORCHELASTIC_MAX_RESTARTS', 0)) and resume != 'auto':
        raise UsageError('processes that are restarted (MAX_RESTARTS) would not go on; add --resume without a value')
    if resume is None:
        return
    if resume == 'auto':
        checkpoint = resumable_checkpoint(cfg.work_dir, _warn)
    else:
        checkpoint = find_checkpoint(resume, '--resume')
        if '://' not in checkpoint:
            check_resumable(checkpoint)
    cfg.resume = checkpoint is not None
    if checkpoint is not None:
        cfg.load_from = checkpoint
    else:
        _warn(f'no checkpoint in {cfg.work_dir} yet, training starts at iteration 0')


def _warn(text: str) -> None:
    if env_rank() == 0:
        print(f'--resume: {text}', file=sys.stderr, flush=True)


@contextmanager
def held_work_dir(work_dir: str) -> Iterator[None]:
    """Keep other trainings out of ``work_dir`` inside the block; the first process does it for all.

    Raises:
        UsageError: a training runs there, or the folder cannot be made.
    """
    with ExitStack() as stack:
        if env_rank() == 0:
            try:
                Path(work_dir).mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(Path(work_dir, '.lock')))
            except BlockingIOError as error:
                raise UsageError(
                    f'{work_dir} is in use, {error.strerror} trains there; wait for it or choose another --work-dir'
                ) from error
            except OSError as error:
                if explained(error) is not None:  # a full disk
                    raise
                raise UsageError(f'work dir {work_dir} cannot be used: {error}') from error
        yield


def train(cfg: Config) -> None:
    """Train ``cfg``, alone in its work_dir, and listen to the signals of a cluster.

    Raises:
        UsageError: see :func:`held_work_dir`.
        Preempted: a signal ended the training early; its checkpoint is saved.
    """
    with held_work_dir(cfg.work_dir), watched_signals():
        build_runner(cfg).train()


def check_training(cfg: Config) -> None:
    """Check what would otherwise fail only after data and model were built.

    Raises:
        UsageError: see :func:`~mmwsss.apis.parallel.check_parallel`; mixed precision without a GPU, a file of weights
            that is not there, or the best checkpoint is to be kept by a score that validation does not make.
    """
    check_parallel(cfg)
    if _type_name(cfg.optim_wrapper.get('type')) == 'AmpOptimWrapper' and get_device() in ('cpu', 'mps'):
        raise UsageError(
            'AmpOptimWrapper of mmengine needs a GPU, none was found; set optim_wrapper.type=BFloat16OptimWrapper'
        )
    if cfg.get('load_from') is not None:
        cfg.load_from = find_checkpoint(cfg.load_from, 'load_from')
        if not cfg.get('resume') and '://' not in cfg.load_from:
            check_checkpoint(cfg.load_from)
    for key, path in _pretrained_files(cfg.model, 'model'):
        if '://' not in path and not os.path.isfile(path):
            problem = 'is a folder' if os.path.isdir(path) else 'does not exist'
            parent = key.removesuffix('.checkpoint')
            raise UsageError(f'{key}: {path} {problem}; name a file of weights, or set {parent}=None for random ones')
    _check_best_stream(cfg)


def build_runner(cfg: Config) -> Runner:
    """Runner of ``cfg``, of the registered ``runner_type`` if the config names one."""
    # Configs pin memory for the sake of GPUs; without one every loader would say that it does not.
    warnings.filterwarnings('ignore', message="'pin_memory' argument is set as true but no accelerator")
    # Of mmseg's hook in the usual default_hooks, which draws on request only.
    warnings.filterwarnings('ignore', message='The draw is False')
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def _check_options(cfg: Config, options: Mapping[str, Any]) -> None:
    known = {*cfg.keys(), *_RUNNER_KEYS, *inspect.signature(Runner.__init__).parameters} - {'self', 'cfg'}
    for key in options:
        first = key.split('.')[0]
        if first not in known:
            raise UsageError(f'--cfg-options {key}: the config has no "{first}"{nearest(first, known)}')


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


def _leave_old_store() -> None:
    """Let processes that torchrun has started again meet at a port of their own.

    Its own store still has the addresses of those that have died, and who finds these waits for them for ever.
    """
    restarts = int(os.environ.get('TORCHELASTIC_RESTART_COUNT', 0))
    if restarts and os.environ.get('TORCHELASTIC_USE_AGENT_STORE') == 'True':
        os.environ['TORCHELASTIC_USE_AGENT_STORE'] = 'False'
        os.environ['MASTER_PORT'] = str(int(os.environ['MASTER_PORT']) + PORT_STEP * restarts)


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


def _type_name(value: Any) -> str | None:
    """Plain name of a config's ``type``, given as a string with or without scope or as a class."""
    return value.split('.')[-1] if isinstance(value, str) else getattr(value, '__name__', None)
