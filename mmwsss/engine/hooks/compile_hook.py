"""torch.compile for the parts of a model that are called in every step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import MethodType
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import nn

from mmwsss.registry import HOOKS

from .iteration_hook import unwrap

BACKBONE_AND_HEADS = ('backbone', 'head', 'aux_head', 'decode_head', 'auxiliary_head')


@HOOKS.register_module()
class CompileHook(Hook):
    """Compile backbone and heads before training, validation or test starts.

    Methods, losses and refiners stay as they are: they are short, work on what the host knows, and partly run on the
    CPU. Of a transformer every block is compiled, all blocks from one graph, so that attention can still be read and
    features taken between blocks. Parameters keep their names: checkpoints fit with and without this hook.

    Args:
        targets: names of the submodules to compile, wherever in the model they are, so that ``backbone`` is that of
            each of CoSA's two networks. Names that the model does not have are passed over.
        options: arguments of ``torch.compile``, such as ``mode='max-autotune-no-cudagraphs'`` or ``dynamic=True``.

    Raises:
        ValueError: when a run starts, the model has none of the targets.
    """

    priority = 'LOW'  # after hooks that copy the model

    def __init__(self, targets: Sequence[str] = BACKBONE_AND_HEADS, **options: Any) -> None:
        self.targets = tuple(targets)
        self.options = options

    def before_run(self, runner: Runner) -> None:
        """Compile, once."""
        names = compile_parts(unwrap(runner.model), self.targets, **self.options)
        print_log(f'compiled with torch.compile at first use: {", ".join(names)}', logger='current')


def compile_parts(model: nn.Module, targets: Sequence[str] = BACKBONE_AND_HEADS, **options: Any) -> list[str]:
    """Let the submodules of ``model`` with a name in ``targets`` run compiled; see :class:`CompileHook`.

    Returns:
        Names of the compiled targets.

    Raises:
        ValueError: ``model`` has none of the targets.
    """
    found = dict(_targets(model, '', set(targets)))
    if not found:
        raise ValueError(f'{type(model).__name__} has none of the parts {", ".join(targets)} that CompileHook compiles')
    for target in found.values():
        _use_plain_numbers(target)
        for module in _regions(target):
            if not isinstance(module.__dict__.get('forward'), CompiledForward):
                module.forward = CompiledForward(module, options)
    return list(found)


class CompiledForward:
    """Stands for ``forward`` of one module; a copy of the module gets a compiled forward of its own.

    Unlike ``nn.Module.compile`` it also works where ``forward`` is called by its name, as mmseg's decode heads do.
    """

    def __init__(self, module: nn.Module, options: dict[str, Any]) -> None:
        self.module = module
        self.options = options
        self._compiled = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._compiled is None:
            self._compiled = torch.compile(MethodType(type(self.module).forward, self.module), **self.options)
        return self._compiled(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | dict(_compiled=None)


def _targets(module: nn.Module, prefix: str, names: set[str]) -> Iterator[tuple[str, nn.Module]]:
    """Outermost submodules with one of the ``names``."""
    for name, child in module.named_children():
        if name in names:
            yield prefix + name, child
        else:
            yield from _targets(child, f'{prefix}{name}.', names)


def _regions(target: nn.Module) -> list[nn.Module]:
    """What is compiled of a target: the blocks of a transformer, otherwise the target itself."""
    blocks = getattr(target, 'layers', None)
    return [*blocks] if isinstance(blocks, nn.ModuleList) else [target]


def _use_plain_numbers(target: nn.Module) -> None:
    """Replace numpy's scalars among the settings, such as mmcv's rate of drop paths; a branch on one cuts the graph."""
    for module in target.modules():
        for name, value in [*vars(module).items()]:
            if isinstance(value, np.generic):
                setattr(module, name, value.item())
