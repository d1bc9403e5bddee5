"""The command ``mmwsss``: one name for the tools, also from an installed wheel."""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from mmwsss.apis.commands import COMMANDS
from mmwsss.apis.config_names import nearest, resource_root
from mmwsss.apis.launch import UsageError, run_cli
from mmwsss.version import __version__

TOOLS = {
    'train': 'train a config',
    'test': 'score a checkpoint',
    'pseudo-labels': 'write the pseudo masks of a data set',
    'pipeline': 'run the stages of a pipeline',
    'export': 'write the segmentation network as ONNX or torch.export',
    'shapes': 'generate a small data set to try things on',
}
MODULES = {
    'predict': ('mmwsss.cli.predict', 'masks, maps and pictures of any images'),
    'report': ('mmwsss.reports.cli', 'one HTML page of one or several runs'),
    'list': ('mmwsss.cli.list_configs', 'names of the shipped configs'),
}
EXTRA = {
    'tool': 'run any other tool by its path: mmwsss tool misc/print_config vitpcm_voc',
    'where': 'folder of the configs and tools that came with the package',
}


def usage() -> str:
    """Help of the command."""
    known = {name: text for name, (_, text) in MODULES.items()} | TOOLS | EXTRA
    lines = [f'  {name:<14} {text}' for name, text in known.items()]
    return '\n'.join(['usage: mmwsss COMMAND ...; mmwsss COMMAND --help says more', '', *lines])


def run(arguments: Sequence[str]) -> None:
    """Run the command line ``arguments``.

    Raises:
        UsageError: there is no such command or tool, or see the command itself.
    """
    if not arguments or arguments[0] in ('-h', '--help'):
        print(usage())
        return
    command, *rest = arguments
    if command == '--version':
        print(__version__)
    elif command == 'where':
        print(resource_root())
    elif command == 'tool':
        run_tool(find_tool(rest), rest[1:], f'mmwsss tool {rest[0]}')
    elif command in TOOLS:
        run_tool(resource_root() / 'tools' / f'{COMMANDS[command]}.py', rest, f'mmwsss {command}')
    elif command in MODULES:
        sys.argv = [f'mmwsss {command}', *rest]
        importlib.import_module(MODULES[command][0]).main()
    else:
        known = [*MODULES, *TOOLS, *EXTRA]
        raise UsageError(f'mmwsss has no command {command}{nearest(command, known)}; commands are {", ".join(known)}')


def find_tool(arguments: Sequence[str]) -> Path:
    """File of the tool that the first of ``arguments`` names, below the folder of tools, with or without ``.py``.

    Raises:
        UsageError: there is no such tool, or no name.
    """
    folder = resource_root() / 'tools'
    names = sorted(path.relative_to(folder).with_suffix('').as_posix() for path in folder.rglob('*.py'))
    if not arguments:
        raise UsageError(f'mmwsss tool needs the name of one: {", ".join(names)}')
    name = arguments[0].removesuffix('.py')
    if name not in names:
        raise UsageError(f'no tool {name} in {folder}{nearest(name, names)}')
    return folder / f'{name}.py'


def run_tool(path: Path, arguments: Sequence[str], name: str) -> None:
    """Run the program ``path`` in this process as ``name`` with ``arguments``."""
    sys.argv = [name, *arguments]
    sys.path.insert(0, str(path.parent))  # tools import their neighbours
    runpy.run_path(str(path), run_name='__main__')


def main() -> None:
    """Run the command line of this process; a mistake ends it with status 2 and one line."""
    run_cli(lambda: run(sys.argv[1:]))


if __name__ == '__main__':
    main()
