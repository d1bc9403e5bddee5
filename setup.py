"""All metadata stands in pyproject.toml; here is only where a wheel keeps what lies beside the package.

Configs and tools go to ``mmwsss/.mim``, where mim and mmengine look for those of an installed package. An editable
install has none: the checkout itself is used.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

RESOURCES = ('configs', 'tools', 'model-index.yml')
ROOT = Path(__file__).resolve().parent


class BuildWithResources(build_py):
    """Copies configs and tools into the package that is built."""

    def run(self) -> None:
        """Build the package, then copy."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, 'mmwsss', '.mim')
        shutil.rmtree(target, ignore_errors=True)  # what an earlier build left may be gone from the sources
        target.mkdir(parents=True)
        for source in (ROOT / name for name in RESOURCES):
            if source.is_dir():
                shutil.copytree(source, target / source.name, ignore=shutil.ignore_patterns('__pycache__', '*.pyc'))
            elif source.exists():
                shutil.copy2(source, target)


setup(cmdclass={'build_py': BuildWithResources})
