"""What the documentation names exists: files, links, tools, their options, settings, classes and imports."""

from __future__ import annotations

import argparse
import ast
import fnmatch
import importlib
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from doc_pages import (
    METHOD_PAGES,
    PAGES,
    REPOSITORY,
    RUNNABLE,
    anchors,
    blocks,
    commands,
    inline,
    own_files,
    tokens,
)
from mmengine.registry import Registry

from mmwsss import register_all, registry  # noqa: F401
from mmwsss.apis import launch
from mmwsss.apis.config_names import find_config
from mmwsss.evaluation.protocols import parse_protocols

ALL = [*PAGES, *METHOD_PAGES]
CODE = ('configs', 'demo', 'docs', 'mmwsss', 'tests', 'tools')
ROOTS = '|'.join((*CODE, 'requirements'))
PATH = re.compile(rf'(?<![\w./])(?:{ROOTS})/[\w./{{}},*…<>+-]*')
GENERATED = 'docs/_build'
REGISTRIES = [value for value in vars(registry).values() if isinstance(value, Registry)]
TRAIN, TEST = ('tools/train.py', 1), ('tools/test.py', 2)  # tools and the number of their positional arguments
SHELLS = {'dist_train.sh': TRAIN, 'dist_test.sh': TEST, 'slurm_train.sh': TRAIN, 'slurm_test.sh': TEST}
NOT_PARSED = ('where', '--version', '--help')  # by mmwsss itself
SLURM_ARGUMENTS = 2  # partition and name of the job, before those of the tool


class Parsed(Exception):
    """Stops a tool after its arguments were read."""


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY).with_suffix(''))


each_page = pytest.mark.parametrize('page', ALL, ids=name_of)


@pytest.fixture(scope='module')
def scripts() -> list[str]:
    """Paths of all code and configs."""
    found = [path for folder in CODE for path in (REPOSITORY / folder).rglob('*') if path.suffix in ('.py', '.sh')]
    return [str(path) for path in found]


@pytest.fixture(scope='module')
def source(scripts) -> str:
    """All code and configs, in which names of the documentation are looked up."""
    return '\n'.join(Path(path).read_text(encoding='utf-8') for path in [*scripts, REPOSITORY / 'Makefile'])


def alternatives(path: str) -> list[str]:
    """Patterns of a path with ``{a,b}``, and with ``…``, ``...`` or ``<name>`` for anything."""
    path = re.sub(r'…|\.\.\.|<\w+>', '*', path.rstrip('.,'))
    if found := re.search(r'\{([^{}]*)\}', path):
        return [
            pattern
            for part in found[1].split(',')
            for pattern in alternatives(path[: found.start()] + part + path[found.end() :])
        ]
    return [path]


def exists(pattern: str, *folders: Path) -> bool:
    """Whether a file, folder or config without its suffix matches ``pattern`` below one of ``folders``."""
    return any(
        next(folder.glob(name.rstrip('/')), None) is not None
        for folder in folders
        for name in (pattern, f'{pattern}.py')
    )


def code_of(page: Path) -> list[str]:
    """Texts of ``page`` that are code, in blocks and inside sentences."""
    return [block.text for block in blocks(page)] + [token.content for token in inline(page, 'code_inline')]


@each_page
def test_paths_exist(page):
    written = own_files(page)
    named = {path for text in code_of(page) for match in PATH.findall(text) for path in alternatives(match)}
    named = {path for path in named - written if not path.startswith(GENERATED)}
    missing = [path for path in sorted(named) if not exists(path, REPOSITORY)]
    assert not missing, f'{name_of(page)} names files that do not exist'


@each_page
def test_scripts_named_in_tables_exist(page, scripts):
    """Also those that are named relative to the package or to the page."""
    spans = {token.content for token in inline(page, 'code_inline')}
    named = {path for span in spans if re.fullmatch(r'[\w./{},*…-]+\.(?:py|sh)', span) for path in alternatives(span)}
    written = own_files(page) | {name for text in code_of(page) for name in re.findall(r'^# (\S+\.py)\b', text, re.M)}
    missing = [path for path in sorted(named - written) if not fnmatch.filter(scripts, f'*/{path}'.replace('/*', '*'))]
    assert not missing, f'{name_of(page)} names files that do not exist'


@each_page
def test_links_lead_somewhere(page):
    broken = []
    targets = [token.attrGet('href') for token in inline(page, 'link_open')]
    targets += [token.attrGet('src') for token in inline(page, 'image')]
    for target in targets:
        if re.match(r'https?://|mailto:', target):
            continue
        name, _, anchor = target.partition('#')
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and path.suffix == '.md' and anchor not in anchors(path)):
            broken.append(target)
    assert not broken, f'links of {name_of(page)} lead nowhere'


@each_page
def test_blocks_have_a_language_and_a_known_mark(page):
    for block in blocks(page):
        first = block.text.split(maxsplit=1)[0] if block.text.strip() else ''
        plain = block.language not in RUNNABLE
        assert not (plain and first in ('python', 'bash', 'make', 'pip', 'mmwsss', '$')), f'{block}: ```bash is missing'
        assert block.mark not in ('not run', 'file') or block.detail, f'{block}: {block.mark} without a reason or name'
        assert block.mark != 'file' or '/' not in block.detail, f'{block}: folders are links to the repository'
    comments = ' '.join(token.content for token in tokens(page) if token.type == 'html_block')
    marked = sum(block.mark is not None for block in blocks(page))
    assert len(re.findall(r'<!--\s*(?:not run|slow|file)', comments)) == marked, 'a mark has to stand before a block'


@each_page
def test_variables_and_options_are_known(page, source):
    for text in code_of(page):
        for name in re.findall(r'MMWSSS_[A-Z_]+', text):
            assert name in source, f'no code reads {name}'
    for token in inline(page, 'code_inline'):
        for option in re.findall(r'(?<![\w-])--[a-z][\w-]*', token.content):
            foreign = any(option in block.text for block in blocks(page))  # of another program
            assert foreign or option in source, f'no tool has the option {option}'


def calls(page: Path) -> list[tuple[str, list[str]]]:
    """Commands of ``page`` with the place where they stand."""
    found = []
    for block in blocks(page):
        if block.language in ('bash', 'console'):
            found += [(str(block), words) for words in commands(block.script)]
    return found


def tool_call(words: list[str]) -> tuple[str, list[str]] | None:
    """Program of the package that a command runs, by its path or 'mmwsss', and its arguments; None for others."""
    if words[0] == 'mmwsss':
        return ('mmwsss', words[1:]) if words[1] not in NOT_PARSED else None
    if words[0] not in ('python', 'bash') or len(words) < 2 or not words[1].startswith(('tools/', 'demo/')):
        return None
    path, arguments = words[1], words[2:]
    name = path.removeprefix('tools/')
    if name == 'dist_run.sh':
        path, arguments = f'tools/{arguments[1]}', arguments[2:]
    elif name.startswith('slurm'):
        path, arguments = SHELLS[name][0], arguments[SLURM_ARGUMENTS:]
    elif name in SHELLS:
        path, positional = SHELLS[name]
        arguments = arguments[:positional] + arguments[positional + 1 :]  # without the number of processes
    return path, arguments


def parse(program: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """Arguments of a program as its own parser reads them; nothing else of it is run."""
    original = argparse.ArgumentParser.parse_args
    path = REPOSITORY / program

    def stop(self, *args, **kwargs):
        raise Parsed(original(self, *args, **kwargs))

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', stop)
    monkeypatch.setattr(sys, 'argv', [str(path), *arguments])
    monkeypatch.syspath_prepend(path.parent)  # as where a script is started
    with pytest.raises(Parsed) as parsed:
        runpy.run_path(str(path / '__main__.py' if path.is_dir() else path), run_name='__main__')
    return parsed.value.args[0]


@each_page
def test_commands_are_understood(page, load_tool, monkeypatch, capsys):
    targets = re.findall(r'^([\w-]+):', (REPOSITORY / 'Makefile').read_text(encoding='utf-8'), re.MULTILINE)
    for where, words in calls(page):
        if words[0] == 'make':
            unknown = [word for word in words[1:] if '=' not in word and word not in targets]
            assert not unknown, f'{where}: no target {unknown}'
        if (call := tool_call(words)) is None or '--help' in words:
            continue
        with monkeypatch.context() as patch:
            try:
                args = parse(*call, patch)
            except SystemExit as error:
                raise AssertionError(f'{where}: {" ".join(words)}: {capsys.readouterr().err}') from error
        check_values(where, args, own_files(page), load_tool)


def check_values(where: str, args: argparse.Namespace, written: set[str], load_tool) -> None:
    """Check what the arguments of a tool say about the package: config, settings, protocols, recipes."""
    config = getattr(args, 'config', None)
    if isinstance(config, str) and re.match(r'configs/|[a-z][\w-]*$', config) and config not in written:
        try:
            path = find_config(str(REPOSITORY / config) if '/' in config else config)
            launch.load_config(path, getattr(args, 'cfg_options', None))
        except launch.UsageError as error:
            raise AssertionError(f'{where}: {error}') from error
        for key in getattr(args, 'cfg_options', None) or ():
            assert setting(launch.load_config(path), key.split('.')[:-2]) is not None, f'{where}: no setting {key}'
    if getattr(args, 'protocol', None):
        assert parse_protocols(args.protocol)
    steps = getattr(args, 'steps', None)
    if isinstance(steps, str) and not steps.isupper() and steps not in written:
        assert steps in load_tool('generate_pseudo_labels').recipe_names(), f'{where}: no recipe {steps}'


def setting(node: Any, keys: list[str]) -> Any:
    """What a config has under ``keys``, None where it has nothing."""
    for key in keys:
        node = node[int(key)] if isinstance(node, list) else node.get(key)
        if node is None:
            return None
    return node


def imports(tree: ast.AST) -> list[tuple[str, list[str]]]:
    """Modules that a block imports, and what from them."""
    found = [(alias.name, []) for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return found + [(node.module, [alias.name for alias in node.names]) for node in nodes]


def types_named(tree: ast.AST) -> list[str]:
    """Names of classes in ``dict(type='…')``."""
    keywords = [keyword for node in ast.walk(tree) if isinstance(node, ast.Call) for keyword in node.keywords]
    values = [keyword.value for keyword in keywords if keyword.arg == 'type']
    return [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]


@each_page
def test_python_compiles_and_its_names_resolve(page):
    chosen = [block for block in blocks(page) if block.language == 'python']
    trees = [(block, ast.parse(block.text, filename=str(block))) for block in chosen]
    own = {node.name for _, tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    modules = {Path(name).stem for name in own_files(page)}
    for block, tree in trees:
        for module, names in imports(tree):
            if module.split('.')[0] not in modules:
                loaded = importlib.import_module(module)
                missing = [name for name in names if not hasattr(loaded, name)]
                assert not missing, f'{block}: {module} has no {missing}'
        for name in types_named(tree):
            known = name in own or any(kind.get(name) is not None for kind in REGISTRIES)
            assert known or name in ('multi_crop',), f'{block}: no class {name} is registered'


def test_commands_of_a_script():
    script = "A=1 python x.py a \\\n    --b 'c d'  # e\ncat > f <<'EOF'\npython no.py\nEOF\nls | head -n 1 && make g\n"
    expected = [['python', 'x.py', 'a', '--b', 'c d'], ['cat'], ['ls'], ['head', '-n', '1'], ['make', 'g']]
    assert list(commands(script)) == expected


def test_every_page_is_in_the_table_of_contents():
    index = (REPOSITORY / 'docs' / 'index.md').read_text(encoding='utf-8')
    entries = set(re.findall(r'^(?:.*<)?([a-z_]+)>?$', index, re.MULTILINE))
    pages = {page.stem for page in PAGES if page.parent.name == 'docs'} - {'index'}
    assert pages <= entries
