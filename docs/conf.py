"""Settings of sphinx: the Markdown pages of this folder as HTML, by ``make docs``; nothing is downloaded."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import mmwsss  # noqa: E402

project = 'mmwsss'
author = 'mmwsss contributors'
copyright = author
release = mmwsss.__version__
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'mmwsss {release}'
myst_heading_anchors = 3
autodoc_default_options = {'members': True, 'member-order': 'bysource'}
napoleon_custom_sections = ['Returns']  # as text, its first words are no type

OUTSIDE = re.compile(r'(?<!!)\[([^\]]+)\]\((\.\./[^)#]+|[\w/]+\.py)(?:#[^)]*)?\)')
BAR = re.compile(r'(``.*?``)|\|')


def name_files_outside(app: Sphinx, page: str, source: list[str]) -> None:
    """Links to files of the repository that are no pages become the names of these files."""
    source[0] = OUTSIDE.sub(lambda found: f'{found[1]} (`{found[2].replace("../", "")}`)', source[0])


def escape_bars(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """A bar in a docstring is one, in formulas such as ``|a - b|``, and no substitution."""
    lines[:] = [BAR.sub(lambda found: found[1] or r'\|', line) for line in lines]


def setup(app: Sphinx) -> None:
    """Register what is done to the text of every page and docstring."""
    app.connect('source-read', name_files_outside)
    app.connect('autodoc-process-docstring', escape_bars)
