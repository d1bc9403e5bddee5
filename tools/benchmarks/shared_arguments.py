"""Arguments that several benchmarks take."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class AtLeastOne(argparse.Action):
    """Takes a whole number, or several, and refuses those below 1."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, type=int, **settings)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: int | list[int],
        option_string: str | None = None,
    ) -> None:
        verb, least = ('has', min(values)) if isinstance(values, list) else ('is', values)
        if least < 1:
            parser.error(f'{self.option_strings[0]} {verb} {least}; expected at least 1')
        setattr(namespace, self.dest, values)


def add_run_arguments(
    parser: argparse.ArgumentParser, repeat: int | None = None, device: str = 'cpu, cuda, cuda:1, ...'
) -> None:
    """Add ``--threads``, ``--repeat``, ``--device`` and ``--json``.

    Args:
        parser: of the benchmark.
        repeat: default of ``--repeat``; without one there is no such argument.
        device: what the help says of ``--device``.
    """
    parser.add_argument('--threads', action=AtLeastOne, help="of the CPU; default: torch's")
    if repeat is not None:
        parser.add_argument('--repeat', action=AtLeastOne, default=repeat, help='turns after the warm-up')
    parser.add_argument('--device', default='cpu', help=device)
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the results there')
