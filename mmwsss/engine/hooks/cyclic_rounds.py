"""What a renewal of masks needs of a run: the weights that predict, how they do so, and a checkpoint before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast, broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.runner import Runner
from torch import nn

from mmwsss.engine.whole_files import WHOLE_FILES
from mmwsss.pseudo_labels.export_folder import IDENTITY
from mmwsss.utils.files import write_text

from .checkpoint_hook import POINTER, gather_optimizer
from .iteration_hook import unwrap

_WEIGHTS = 'checkpoint sha256'  # entry of an export's identity


def weights_sha256(model: nn.Module) -> str:
    """Hexadecimal SHA-256 of the names and values of all weights and statistics of ``model``."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().to('cpu').contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def predicting_model(runner: Runner) -> nn.Module:
    """The model that predicts: its running average, where a hook keeps one."""
    averages = (hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook))
    return next(averages, None) or unwrap(runner.model)


def is_of_other_weights(folder: Path, weights: str) -> bool:
    """Whether the masks in ``folder`` are those of another run or of a part of it that is trained again."""
    answer = [False]
    if is_main_process() and (folder / IDENTITY).is_file():
        try:
            answer = [json.loads((folder / IDENTITY).read_text(encoding='utf-8')).get(_WEIGHTS) != weights]
        except (ValueError, AttributeError):
            answer = [True]
    broadcast_object_list(answer)
    return answer[0]


def saves_checkpoint(runner: Runner) -> bool:
    """Whether a hook has just saved this iteration."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook) and not hook.by_epoch]
    return any(hook.every_n_train_iters(runner, hook.interval, hook.save_begin) for hook in hooks)


def save_checkpoint(runner: Runner, iteration: int) -> None:
    """Save this iteration as the one to resume from."""
    name = f'iter_{iteration}.pth'
    gather_optimizer(runner)
    runner.save_checkpoint(runner.work_dir, name, by_epoch=False, backend_args=WHOLE_FILES)
    if is_main_process():
        write_text(Path(runner.work_dir, POINTER), str(Path(runner.work_dir, name)))


@contextmanager
def predicting(model: nn.Module, test_cfg: Mapping[str, Any]) -> Iterator[None]:
    """Give ``model`` other settings of ``test_cfg``, and the statistics of the first process, inside the block."""
    own, statistics = model.test_cfg, [(buffer, buffer.clone()) for buffer in model.buffers()]
    model.test_cfg = type(own)({**own, **test_cfg})
    try:
        for buffer, _ in statistics:
            broadcast(buffer)
        yield
    finally:
        model.test_cfg = own
        for buffer, before in statistics:
            buffer.copy_(before)
