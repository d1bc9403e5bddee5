"""The only place that knows about version gaps between the dependencies.

``apply()`` looks at what is installed and repairs only what is missing: with a full mmcv, a torchvision that loads its
operators and a setuptools that ships ``pkg_resources``, it changes nothing except what ``torch.load`` allows.
"""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys
import types
from collections.abc import Callable
from functools import partial
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path

from packaging.version import Version

MMCV_RANGE = ('2.0.0rc4', '2.2.0')
_INSTALL = {
    'torch': 'pip install torch',
    'torchvision': 'pip install torchvision',
    'mmengine': 'pip install "mmengine>=0.10.0,<0.11"',
    'mmcv': 'pip install "mmcv-lite>=2.0.0rc4,<2.2.0"',
    'mmseg': 'pip install "mmsegmentation>=1.2.0,<1.3"',
    'mmpretrain': 'pip install "mmpretrain>=1.2.0,<1.3"',
}

# Schemas that torchvision's Python side looks up while it is imported, whether its C++ library could be loaded or not.
_TORCHVISION_SCHEMAS = {
    'nms': 'nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
    'qnms': 'qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
}
_torchvision_library = None  # torch drops the schemas again as soon as the Library object is collected


def check_dependencies() -> None:
    """Check that the host libraries are there and that mmcv is one that mmseg accepts.

    Raises:
        ImportError: one line that names the library, what was found and the command that fixes it.
    """
    for module, command in _INSTALL.items():
        if _module_spec(module) is None:
            raise ImportError(f'mmwsss needs {module}, which is not installed; run: {command}')
    if _installed('onedl-mmcv') is not None:
        return  # the maintained fork counts its versions differently and brings a matching mmseg
    check_mmcv_version(importlib.import_module('mmcv').__version__)


def check_mmcv_version(version: str) -> None:
    """Raise ImportError with the command that fixes it when mmseg would refuse this mmcv ``version``."""
    low, high = MMCV_RANGE
    if not Version(low) <= Version(version) < Version(high):
        raise ImportError(f'mmwsss needs mmcv >= {low}, < {high}, found {version}; run: {_INSTALL["mmcv"]}')


def apply() -> None:
    """Close the gaps found in the running environment; calling it again is harmless."""
    declare_torchvision_ops()
    import_mmcv_ops()
    replace_pkg_resources()
    allow_mmengine_checkpoints()
    check_downloads()
    resolve_own_configs()


def has_compiled_ops() -> bool:
    """Whether the installed mmcv carries its compiled operators (the full mmcv rather than ``mmcv-lite``)."""
    return _module_spec('mmcv._ext') is not None


def declare_torchvision_ops() -> None:
    """Declare the operator schemas torchvision needs at import time, only when its own library cannot be loaded.

    A torchvision built for another torch fails with "operator torchvision::nms does not exist". The declared schemas
    have no kernel: calling one raises torch's own "no kernel" error.
    """
    global _torchvision_library
    spec = _module_spec('torchvision')
    if _torchvision_library is not None or spec is None or 'torchvision' in sys.modules:
        return
    import torch

    for library in sorted(Path(spec.origin).parent.glob('_C*.*')):
        try:
            torch.ops.load_library(str(library))
        except (OSError, ImportError, RuntimeError):
            continue
    missing = [name for name in _TORCHVISION_SCHEMAS if not hasattr(torch.ops.torchvision, name)]
    if missing:
        _torchvision_library = torch.library.Library('torchvision', 'FRAGMENT')
        for name in missing:
            _torchvision_library.define(_TORCHVISION_SCHEMAS[name])


def import_mmcv_ops() -> None:
    """Import ``mmcv.ops`` once, behind a stand-in for ``mmcv._ext`` when the compiled operators are missing.

    mmseg imports ``mmcv.ops`` at import time without calling anything there. The stand-in leaves ``sys.modules`` again
    because ``mmengine.model.revert_sync_batchnorm`` takes its presence for a full mmcv. Operators of ``mmcv.ops`` raise
    RuntimeError when they are called.
    """
    if 'mmcv.ops' in sys.modules or has_compiled_ops():
        return
    stand_in = _MissingOps('mmcv._ext')
    sys.modules['mmcv._ext'] = stand_in
    try:
        importlib.import_module('mmcv.ops')
    finally:
        del sys.modules['mmcv._ext']
        vars(sys.modules['mmcv']).pop('_ext', None)


class _MissingOps(types.ModuleType):
    """Stand-in for ``mmcv._ext`` whose every operator raises with the name of the operator and the fix."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):
            raise AttributeError(name)

        def missing_op(*args, **kwargs):
            raise RuntimeError(
                f'mmcv.ops needs the compiled operator "{name}", which mmcv-lite does not have; '
                'install the full mmcv: pip uninstall -y mmcv-lite && pip install "mmcv>=2.0.0rc4,<2.2.0"'
            )

        return missing_op


def replace_pkg_resources() -> None:
    """Give mmengine's two package look-ups an implementation on importlib where ``pkg_resources`` is gone.

    setuptools 82 dropped ``pkg_resources``; mmengine 0.10 still imports it inside ``is_installed`` and
    ``get_installed_path``, which ``_base_ = 'mmseg::...'`` in a config calls.
    """
    if _module_spec('pkg_resources') is not None:
        return
    from mmengine.utils import package_utils

    for name, function in (('is_installed', is_installed), ('get_installed_path', get_installed_path)):
        original = getattr(package_utils, name)
        for module in [m for key, m in sys.modules.items() if key.startswith('mmengine')]:
            if vars(module).get(name) is original:
                setattr(module, name, function)


def is_installed(package: str) -> bool:
    """Whether ``package`` is the name of an installed distribution or of an importable module."""
    return _installed(package) is not None or _module_folder(package) is not None


def get_installed_path(package: str) -> str:
    """Folder of the installed ``package``, named by its distribution (``mmsegmentation``) or its module (``mmseg``).

    Raises:
        ModuleNotFoundError: nothing of that name is installed.
    """
    owned = (name for name, owners in metadata.packages_distributions().items() if package in owners)
    # mmsegmentation also installs a top-level package "tests".
    for module in (package, *sorted(owned, key=lambda name: name == 'tests')):
        folder = _module_folder(module)
        if folder is not None:
            return str(folder)
    raise ModuleNotFoundError(f'{package} is not installed; run: pip install {package}')


def allow_mmengine_checkpoints() -> None:
    """Allow-list the classes mmengine stores in a checkpoint, so that resuming passes ``weights_only=True``.

    Besides tensors a checkpoint of mmengine holds its message hub: ``HistoryBuffer`` objects with numpy arrays. The
    check itself stays on; anything else in a file is still refused.
    """
    import numpy as np
    import torch

    if not hasattr(torch.serialization, 'get_unsafe_globals_in_checkpoint'):
        return  # torch < 2.6 does not check by default, and its allow-list takes no (object, name) pairs
    from mmengine.logging.history_buffer import HistoryBuffer

    multiarray = importlib.import_module('numpy._core.multiarray' if hasattr(np, '_core') else 'numpy.core.multiarray')
    scalar_types = [np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64]
    scalar_types += [np.uint8, np.uint16, np.uint32, np.uint64, np.bool_]
    allowed = [HistoryBuffer, np.ndarray, np.dtype, *{type(np.dtype(scalar)) for scalar in scalar_types}]
    # numpy 1.x and 2.x name the same two functions by different paths, and a file may come from either.
    for path in ('numpy._core.multiarray', 'numpy.core.multiarray'):
        allowed += [(getattr(multiarray, name), f'{path}.{name}') for name in ('_reconstruct', 'scalar')]
    # Pickle stores the methods a HistoryBuffer carries as calls of getattr.
    allowed += [(_history_buffer_method, f'{module}.getattr') for module in ('builtins', '__builtin__')]
    torch.serialization.add_safe_globals(allowed)


def check_downloads() -> None:
    """Let mmengine read the checkpoints that it downloads with ``weights_only=True`` too.

    It asks torch's hub for them, which runs the code in a file unless it is told not to.
    """
    import torch
    from mmengine.runner import checkpoint

    if hasattr(torch.serialization, 'get_unsafe_globals_in_checkpoint'):  # as for local files, torch >= 2.6
        checkpoint.load_url = partial(torch.hub.load_state_dict_from_url, weights_only=True)


def resolve_own_configs() -> None:
    """Let configs name those of this package as their base: ``_base_ = 'mmwsss::vitpcm_voc.py'``.

    mmengine knows a fixed list of packages for this form, and asks for a folder in front of the file name.
    """
    from mmengine.config import Config

    original = Config._get_cfg_path
    if getattr(original, 'resolves_mmwsss', False):
        return

    def get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if '::' not in cfg_path:
            return original(cfg_path, filename)
        from mmwsss.apis.config_names import OWN_PREFIX, shipped_config

        return (shipped_config(cfg_path), None) if cfg_path.startswith(OWN_PREFIX) else original(cfg_path, filename)

    get_cfg_path.resolves_mmwsss = True
    Config._get_cfg_path = staticmethod(get_cfg_path)


def _history_buffer_method(owner: object, name: str) -> Callable:
    """The part of ``getattr`` a checkpoint of mmengine needs: the statistics methods of ``HistoryBuffer``.

    Raises:
        UnpicklingError: the file asks for any other attribute.
    """
    from mmengine.logging.history_buffer import HistoryBuffer

    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'the file asks for attribute "{name}" of {owner!r}, which is not allowed')
    return getattr(HistoryBuffer, name)


def _module_spec(module: str) -> ModuleSpec | None:
    """Import spec of ``module``, None when it cannot be found."""
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None


def _module_folder(module: str) -> Path | None:
    """Folder of an importable ``module``, None when there is none or only a folder that merely bears the name."""
    spec = _module_spec(module)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def _installed(distribution: str) -> str | None:
    """Version of an installed distribution, None when it is not there."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
