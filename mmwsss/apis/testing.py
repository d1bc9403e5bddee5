"""Evaluation of a checkpoint from a command line tool."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmwsss.engine.loops import BEST_STREAM

from . import safetensors_files  # noqa: F401, registers the reader of these files
from .launch import UsageError

# What torch.load raises on files of other kinds and on cut ones.
_UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, OSError, EOFError, KeyError, ValueError, AttributeError, ImportError,
)  # fmt: skip
_TRAINING_ONLY = ('auxiliary_head.',)  # of mmseg; a config for prediction may leave it out
_MAX_NAMED = 3
_TIME = re.compile(r'_\d{8}_\d{6}$')  # that mmengine adds to the name of a config
_SHAPES = re.compile(r'size mismatch for (\S+): .*?torch\.Size\(\[(.*?)\]\).*?torch\.Size\(\[(.*?)\]\)\.?')


def read_checkpoint(path: str) -> dict:
    """Content of the checkpoint ``path`` on the CPU.

    Raises:
        UsageError: the file is none, or one of the official CoSA training.
    """
    try:
        content = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    except _UNREADABLE as error:
        if 'argparse.Namespace' in str(error):
            raise UsageError(
                f'{path} holds the arguments of another program; if it is of the official CoSA training, convert it '
                'with tools/model_converters/cosa_to_mmwsss.py'
            ) from error
        raise UsageError(f'{path} cannot be read as a checkpoint; is it complete, and a file of torch?') from error
    if not isinstance(content, dict):
        raise UsageError(f'{path} is no checkpoint: expected a dict with weights, found {type(content).__name__}')
    return content


def load_weights(model: nn.Module, content: Mapping[str, Any], path: str) -> None:
    """Load the ``content`` of the checkpoint ``path`` into ``model``, every weight that prediction needs.

    Wrappers are looked through. A model with an attribute ``stream``, the name of the network that predicts (CoSA),
    needs the weights of this network only; the others are loaded where the file has them.

    Raises:
        UsageError: weights are missing, have another shape, or belong to a part that the model does not have.
    """
    model = innermost(model)
    weights = content.get('state_dict', content)
    if not isinstance(weights, Mapping):
        raise UsageError(f'{path} is no checkpoint: its state_dict is no dict of weights')
    own = OrderedDict((re.sub(r'^(module\.)+', '', str(name)), value) for name, value in weights.items())
    stream = _stream(model)
    if stream is not None:
        _check_streams(model, stream, own, path)
        # What else a model of several networks keeps, such as the memory of searched thresholds, is for training.
        fitting = {name: value.shape for name, value in model.state_dict().items()}
        own = OrderedDict(
            (name, value)
            for name, value in own.items()
            if name.startswith(f'{stream}.') or fitting.get(name) == getattr(value, 'shape', None)
        )
    if hasattr(weights, '_metadata'):  # versions of the layers
        own._metadata = weights._metadata
    try:
        missing, unexpected = model.load_state_dict(own, strict=False)
    except (RuntimeError, AttributeError) as error:
        lines = [_SHAPES.sub(r'\1: (\2) instead of (\3)', line.strip()) for line in str(error).splitlines()[1:]]
        raise _misfit(path, 'weights of another shape', lines or [one_line(error)], content) from error
    needed = '' if stream is None else f'{stream}.'
    missing = [name for name in missing if name.startswith(needed) and not name.endswith('num_batches_tracked')]
    unexpected = [name for name in unexpected if not name.startswith(_TRAINING_ONLY)]
    if missing:
        raise _misfit(path, 'weights missing', missing, content)
    if unexpected:
        raise _misfit(path, 'weights that the model has no place for', unexpected, content)


def innermost(model: nn.Module) -> nn.Module:
    """The model inside wrappers for several processes, test time augmentation and protocols."""
    while isinstance(getattr(model, 'module', None), nn.Module):
        model = model.module
    return model


def noted_stream(content: Mapping[str, Any], path: str) -> str | None:
    """Stream that scored best in validation as the checkpoint ``path`` notes it, None without a note.

    A file that ``CheckpointHook(save_best='best_stream/<name>')`` wrote is asked for this score, others for the first.
    """
    hub = content.get('message_hub')
    notes = hub.get('runtime_info', {}) if isinstance(hub, Mapping) else {}
    for key, stream in notes.items():
        if key.startswith(f'{BEST_STREAM}/') and Path(path).name.startswith(f'best_{key.replace("/", "_")}_'):
            return stream
    return notes.get(BEST_STREAM)


def run_test(runner: Runner, checkpoint: str) -> dict[str, float]:
    """Scores of ``runner.test()`` with the weights of ``checkpoint``, which its config names as ``load_from``.

    Raises:
        UsageError: the file is no checkpoint or does not fit the model, see :func:`load_weights`; or data, model and
            metrics do not fit together, which they report as ValueError.
    """
    runner.register_hook(_StrictLoading(checkpoint))
    try:
        return runner.test()
    except _UNREADABLE as error:
        if not runner._has_loaded:
            read_checkpoint(checkpoint)  # tells the reason where the file is the cause
        if not isinstance(error, ValueError):
            raise
        raise UsageError(one_line(error)) from error


class _StrictLoading(Hook):
    """Load a checkpoint by :func:`load_weights` ahead of the runner, which would only print what does not fit."""

    priority = 'LOWEST'  # other hooks may change what is loaded

    def __init__(self, path: str) -> None:
        self.path = path

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        _check_classes(checkpoint, runner.test_loop.dataloader.dataset.metainfo, self.path)
        load_weights(runner.model, checkpoint, self.path)
        model = innermost(runner.model)
        checkpoint['state_dict'] = model.state_dict()  # complete, so that the runner has nothing to report
        stream, noted = _stream(model), noted_stream(checkpoint, self.path)
        if None not in (stream, noted) and noted != stream and is_main_process():
            print(
                f'{self.path} notes that the stream {noted} was better in validation, {stream} is evaluated; for the '
                f'other one: --cfg-options model.test_cfg.stream={noted}'
            )


def _check_classes(checkpoint: Mapping[str, Any], metainfo: Mapping[str, Any], path: str) -> None:
    """Raise UsageError where the file was trained on as many classes of other names or in another order."""
    noted = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
    trained, tested = (tuple(info.get('classes') or ()) for info in (noted, metainfo))
    if trained and tested and trained != tested and len(trained) == len(tested):
        place = next(i for i, names in enumerate(zip(trained, tested)) if names[0] != names[1])
        raise UsageError(
            f'{path} was trained with class {place} = {trained[place]}, the data of this config have {tested[place]} '
            'there; name the classes in the order of the training (classes.txt of own data)'
        )


def one_line(error: BaseException) -> str:
    """Message of ``error``; of one that a worker process sends with its traceback, the last line."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if 'Traceback' in str(error):
        return lines[-1].removeprefix('ValueError: ')
    return ' '.join(' '.join(lines).split()) or type(error).__name__


def _stream(model: nn.Module) -> str | None:
    """Name of the network that predicts, of a model that has several."""
    stream = getattr(model, 'stream', None)
    return stream if isinstance(stream, str) and isinstance(getattr(model, stream, None), nn.Module) else None


def _check_streams(model: nn.Module, stream: str, weights: Mapping[str, Any], path: str) -> None:
    """Raise UsageError where the file has no weight of ``stream`` but all of another network of this kind."""
    if any(name.startswith(f'{stream}.') for name in weights):
        return
    kind = type(getattr(model, stream))
    for other, network in model.named_children():
        if type(network) is kind and all(f'{other}.{name}' in weights for name in network.state_dict()):
            raise UsageError(
                f'checkpoint {path} has no weights of the stream {stream}, only of {other}; set '
                f'model.test_cfg.stream={other} by --cfg-options'
            )


def _misfit(path: str, what: str, names: Sequence[str], content: Mapping[str, Any]) -> UsageError:
    some = ', '.join([*names[:_MAX_NAMED], *(['...'] if len(names) > _MAX_NAMED else [])])
    meta = content.get('meta')
    trained = meta.get('experiment_name') if isinstance(meta, Mapping) else None
    hint = f'; is it of another config? its meta says {_TIME.sub("", trained)}' if isinstance(trained, str) else ''
    return UsageError(f'checkpoint {path} does not fit the model of the config: {len(names)} {what} ({some}){hint}')
