"""What the commands that convert official checkpoints have in common."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mmwsss.utils.files import replacing

from .errors import UsageError
from .launch import Parser

_SOURCE = '.pth file of the official training'


def converter_parser(description: str, source: str = _SOURCE) -> argparse.ArgumentParser:
    """Parser of the two files that every converter takes; ``source`` says what the first one is."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help=source)
    parser.add_argument('target', help='.pth file to write')
    return parser


@contextmanager
def reading() -> Iterator[None]:
    """Errors of files that are missing, broken or of another kind become UsageError."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(str(error)) from error


def save_converted(state: Mapping[str, Tensor], source: str, target: str, **details: Any) -> None:
    """Write weights as a checkpoint that names its ``source``; ``target`` is replaced at once or not at all."""
    with replacing(target) as partial:
        torch.save(dict(state_dict=dict(state), meta=dict(source=os.path.basename(source), **details)), partial)
    print(f'{len(state)} tensors written to {target}')


def convert_command(
    description: str,
    convert: Callable[[str], Mapping[str, Tensor]],
    source: str = _SOURCE,
) -> None:
    """Run a converter on the files that the command line names.

    Args:
        description: of the command.
        convert: weights under our names from the path of an official file.
        source: kind of this file.

    Raises:
        UsageError: the file is missing, broken or of another kind.
    """
    args = converter_parser(description, source).parse_args()
    with reading():
        state = convert(args.source)
    save_converted(state, args.source, args.target)
