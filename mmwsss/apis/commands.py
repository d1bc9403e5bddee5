"""How the tools are called in this installation."""

from __future__ import annotations

import re

from .config_names import resource_root

# Names of the command mmwsss for tools, by their path below tools/.
COMMANDS = {
    'train': 'train',
    'test': 'test',
    'generate_pseudo_labels': 'pseudo-labels',
    'run_pipeline': 'pipeline',
    'report': 'report',
    'deployment/export_onnx': 'export',
    'dataset_converters/shapes': 'shapes',
}
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

    text = _TOOL.sub(lambda found: f'mmwsss {COMMANDS.get(found[1], f"tool {found[1]}")}', text)
    return _CONFIG.sub(config, text)
