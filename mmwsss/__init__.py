"""Weakly supervised semantic segmentation for the OpenMMLab stack.

Importing the package first closes the gaps between the installed versions of its dependencies (see
:mod:`mmwsss.compat`), so import ``mmwsss`` before ``mmseg`` or ``mmpretrain``.
"""

from . import compat
from .version import __version__

compat.check_dependencies()
compat.apply()

__all__ = ['__version__']
