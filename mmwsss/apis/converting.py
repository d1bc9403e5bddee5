"""What the commands that convert official checkpoints have in common."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mmwsss.utils.files import replacing


def converter_parser(description: str) -> argparse.ArgumentParser:
    """Parser of the two files that every converter takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('source', help='.pth file of the official training')
    parser.add_argument('target', help='.pth file to write')
    return parser


def save_converted(state: Mapping[str, Tensor], source: str, target: str, **details: Any) -> None:
    """Write weights as a checkpoint that names its ``source``; ``target`` is replaced at once or not at all."""
    with replacing(target) as partial:
        torch.save(dict(state_dict=dict(state), meta=dict(source=os.path.basename(source), **details)), partial)
    print(f'{len(state)} tensors written to {target}')


def convert_command(description: str, convert: Callable[[str], Mapping[str, Tensor]]) -> int:
    """Run a converter on the command line's files.

    Args:
        description: of the command.
        convert: weights under our names from the path of an official file; its OSError or ValueError becomes one line.

    Returns:
        Exit status, 2 where the file is not converted.
    """
    args = converter_parser(description).parse_args()
    try:
        state = convert(args.source)
    except (OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    save_converted(state, args.source, args.target)
    return 0
