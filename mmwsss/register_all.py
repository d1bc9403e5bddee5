"""Importing this module registers everything the package has.

In scope ``mmwsss`` the registries import what they need by themselves. Code that builds configs in mmseg's scope, like
``MMSegInferencer``, does not ask them, so the configs list this module in ``custom_imports``.
"""

from . import datasets, engine, evaluation, models, refiners, visualization
from .datasets import transforms

__all__ = ['datasets', 'engine', 'evaluation', 'models', 'refiners', 'transforms', 'visualization']
