"""Trained models for prediction: weights, pseudo labeler and device from what a user names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from mmwsss.pseudo_labels.labeler import PseudoLabeler
from mmwsss.registry import MODELS

from .config_names import resource_root
from .errors import UsageError
from .launch import load_config
from .testing import load_weights, read_checkpoint


def recipe_folder() -> Path:
    """Folder of the shipped pseudo labelers."""
    return resource_root() / 'configs' / '_base_' / 'pseudo_labels'


def recipe_names() -> list[str]:
    """Names that ``steps`` knows."""
    return sorted(path.stem for path in recipe_folder().glob('*.py'))


def find_steps(name: str) -> list[dict[str, Any]] | None:
    """Configs of the steps in a recipe or a config file; None where it says ``pseudo_labeler = None``.

    Raises:
        UsageError: there is no such recipe or file, or it does not set ``pseudo_labeler``.
    """
    path = Path(name) if name.endswith('.py') else recipe_folder() / f'{name}.py'
    if not path.is_file():
        raise UsageError(f'--steps {name}: no such file, nor one of the recipes {", ".join(recipe_names())}')
    cfg = load_config(str(path))
    if 'pseudo_labeler' not in cfg:
        raise UsageError(f'--steps {name}: {path} does not set pseudo_labeler = dict(steps=[...])')
    return None if cfg.pseudo_labeler is None else cfg.pseudo_labeler.steps


def use_steps(cfg: Config, steps: str | None) -> list[dict[str, Any]] | None:
    """Put the steps that ``--steps`` names into the model of ``cfg``; returns those the model then has."""
    if steps is not None:
        found = find_steps(steps)
        cfg.model.pseudo_labeler = None if found is None else dict(steps=found)
    labeler = cfg.model.get('pseudo_labeler')
    return None if labeler is None else labeler['steps']


def load_model(cfg: Config, checkpoint: str, device: str) -> tuple[nn.Module, dict[str, Any]]:
    """Model of ``cfg`` on ``device`` with the weights of ``checkpoint``, and the content of that file.

    Raises:
        UsageError: the weights do not belong to the model, the file holds none, or a step of its pseudo labeler cannot
            be built; see :func:`~mmwsss.apis.testing.load_weights`.
    """
    if cfg.model.get('pseudo_labeler') is not None:
        try:
            PseudoLabeler(**cfg.model.pseudo_labeler)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f'the steps of the pseudo labeler cannot be built: {error}') from error
    content = read_checkpoint(checkpoint)
    model = MODELS.build(cfg.model)
    load_weights(model, content, checkpoint)
    return model.to(device), content


def check_device(device: str) -> str:
    """``device`` itself.

    Raises:
        UsageError: torch does not know it or it is not there.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        text = ' '.join(str(error).split('\n')[0].split())
        raise UsageError(f'--device {device} cannot be used: {text}') from error
    return device
