"""List the shipped configs: name, method and data set.

Example: mmwsss list shapes
"""

from __future__ import annotations

import argparse

from mmwsss.apis.config_names import config_entries, list_models, nearest
from mmwsss.apis.launch import Parser, UsageError


def main() -> None:
    """Read the arguments, print one line for each config."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pattern', nargs='?', default='', help='part of the names (default: all)')
    pattern = parser.parse_args().pattern
    entries = config_entries(pattern)
    if not entries:
        raise UsageError(f'no config has {pattern} in its name{nearest(pattern, list_models())}')
    widths = [max(len(getattr(entry, key)) for entry in entries) for key in ('name', 'method')]
    for entry in entries:
        print(f'{entry.name:<{widths[0]}}  {entry.method:<{widths[1]}}  {entry.data}')
