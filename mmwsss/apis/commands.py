"""How the tools are called in this installation."""

from __future__ import annotations

import re

from .config_names import resource_root

# Paths below tools/ of the tools that have a command of their own.
COMMANDS = {
    'train': 'train',
    'test': 'test',
    'pseudo-labels': 'generate_pseudo_labels',
    'pipeline': 'run_pipeline',
    'report': 'report',
    'export': 'deployment/export_onnx',
    'shapes': 'dataset_converters/shapes',
}
_NAMES = {path: name for name, path in COMMANDS.items()}
_TOOL = re.compile(r'python tools/([\w/]+)\.py')
_CONFIG = re.compile(r'(?<!\S)(?:\S*/\.mim/)?configs/([\w./-]+)\.py(?!\S)')


def for_installation(text: str) -> str:
    """Commands in ``text``, written for a checkout, as they are here.

    In a wheel ``python tools/train.py configs/vitpcm_voc.py`` is ``mmwsss train vitpcm_voc``.
    """
    root = resource_root()
    if root.name != '.mim':
        return text

    def config(found: re.Match[str]) -> str:
        shipped = (root / 'configs' / f'{found[1]}.py').is_file()
        return found[1] if shipped else found[0]  # somebody's own

    text = _TOOL.sub(lambda found: f'mmwsss {_NAMES.get(found[1], f"tool {found[1]}")}', text)
    return _CONFIG.sub(config, text)
