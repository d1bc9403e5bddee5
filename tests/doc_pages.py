"""Pages of the documentation: their code blocks, links, anchors and commands.

A block is run by the tests unless an HTML comment right before it says otherwise, which GitHub does not show:
``<!-- not run: REASON -->``; ``<!-- slow -->``, only with ``-m slow``; ``<!-- file: NAME -->``, written to NAME.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / 'README.md', *sorted((REPOSITORY / 'docs').glob('*.md'))]
METHOD_PAGES = sorted((REPOSITORY / 'configs').glob('*/README.md'))
RUNNABLE = ('bash', 'console', 'python')
MARK = re.compile(r'<!--\s*(not run|slow|file)\s*(?::\s*(.*?))?\s*-->', re.DOTALL)
ENDS_COMMAND = ('|', '||', '&&', ';', '&')
REDIRECTION = re.compile(r'(?:\d?>>?|<)\s*[^\s&]\S*|\d>&\d')


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language, its text and its mark, one of None, 'not run', 'slow', 'file'."""

    page: Path
    line: int
    language: str
    text: str
    mark: str | None = None
    detail: str | None = None

    def __str__(self) -> str:
        return f'{self.page.relative_to(REPOSITORY)}:{self.line}'

    @property
    def runs(self) -> bool:
        """Whether the tests run the block, in the fast or in the slow part."""
        return self.language in RUNNABLE and self.mark in (None, 'slow')

    @property
    def script(self) -> str:
        """What is run: of a console block the lines behind ``$``."""
        if self.language != 'console':
            return self.text
        return '\n'.join(line[2:] for line in self.text.splitlines() if line.startswith('$ '))


@cache
def tokens(page: Path) -> list[Token]:
    """Parsed page, tables included."""
    return MarkdownIt('commonmark').enable('table').parse(page.read_text(encoding='utf-8'))


@cache
def blocks(page: Path) -> list[Block]:
    """Fenced blocks of ``page`` in their order."""
    found, comment = [], ''
    for token in tokens(page):
        if token.type == 'fence':
            mark = MARK.search(comment)
            kind, detail = mark.groups() if mark else (None, None)
            found.append(Block(page, token.map[0] + 1, token.info.strip(), token.content, kind, detail))
        comment = token.content if token.type == 'html_block' else ''
    return found


def own_files(page: Path) -> set[str]:
    """Files that the page tells its reader to write."""
    return {block.detail for block in blocks(page) if block.mark == 'file'}


def inline(page: Path, kind: str) -> Iterator[Token]:
    """Tokens of one kind inside the text of ``page``, such as 'code_inline' and 'link_open'."""
    for token in tokens(page):
        for child in token.children or ():
            if child.type == kind:
                yield child


def anchors(page: Path) -> set[str]:
    """Names that links to headings of ``page`` have on GitHub."""
    found: list[str] = []
    for before, token in zip(tokens(page), tokens(page)[1:]):
        if before.type == 'heading_open':
            text = ''.join(child.content for child in token.children)
            slug = re.sub(r'[^\w\- ]', '', text.lower()).replace(' ', '-')
            found.append(f'{slug}-{found.count(slug)}' if slug in found else slug)
    return set(found)


def commands(script: str) -> Iterator[list[str]]:
    """Simple commands of a bash script as words, without variables set before them and redirections."""
    script = re.sub(r"<<\s*'?(\w+)'?.*?\n\1\n", '\n', script.replace('\\\n', ' '), flags=re.DOTALL)
    for line in REDIRECTION.sub('', script).splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), ';']:
            if word in ENDS_COMMAND:
                if words:
                    yield words
                words = []
            elif words or not re.match(r'\w+=', word):
                words.append(word)
