"""No line that a training step can reach makes the host wait for the device, as far as its source tells."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from known_syncs import KNOWN

PACKAGE = Path(__file__).resolve().parents[1] / 'mmwsss'
FOLDERS = ('models', 'ops', 'refiners', 'pseudo_labels')
# Reading of foreign checkpoints, evaluation and the writing of masks: nothing that a step calls.
OTHERS = ('weights', 'checkpoints', 'keras', 'export', 'manifest', 'stored_maps', 'multi_crop', 'protocol_')
FILES = sorted(
    path
    for folder in FOLDERS
    for path in PACKAGE.joinpath(folder).rglob('*.py')
    if not any(word in path.name for word in OTHERS)
)
READS = {'item', 'cpu', 'numpy', 'tolist', 'nonzero', 'masked_select', 'argwhere', 'unique', 'unique_consecutive'}
REDUCTIONS = {'any', 'all', 'sum', 'mean', 'max', 'min', 'amax', 'amin', 'norm', 'equal', 'allclose'}
NUMBERS = {'int', 'float', 'bool'}


def called(node: ast.AST) -> str | None:
    """Name of the method or function that ``node`` calls, without what it belongs to."""
    if not isinstance(node, ast.Call):
        return None
    return getattr(node.func, 'attr', getattr(node.func, 'id', None))


def reduces(node: ast.AST) -> bool:
    """Whether a method that reduces a tensor is called below ``node``."""
    return any(called(part) in REDUCTIONS and isinstance(part.func, ast.Attribute) for part in ast.walk(node))


def is_mask(node: ast.AST) -> bool:
    """Whether an index is a comparison, or made of such."""
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Invert)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr):
        return is_mask(node.left) or is_mask(node.right)
    return isinstance(node, ast.Compare)


def waits(node: ast.AST) -> str | None:
    """What ``node`` itself, not what is below it, makes the host wait for."""
    name = called(node)
    if name in READS and isinstance(node.func, ast.Attribute):
        return f'.{name}()'
    if name == 'new_tensor' or (name in ('tensor', 'as_tensor') and any(key.arg == 'device' for key in node.keywords)):
        return f'{name}(...) on the device'
    if name == 'to' and any(isinstance(part, ast.Constant) and part.value == 'cpu' for part in node.args):
        return ".to('cpu')"
    if name == 'where' and len(node.args) == 1:
        return 'where of one argument'
    if name in NUMBERS and isinstance(node.func, ast.Name) and any(map(reduces, node.args)):
        return f'{name}(...) of a reduction'
    if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert) and reduces(node.test):
        return 'branch on a reduction'
    if isinstance(node, ast.Subscript) and any(map(is_mask, getattr(node.slice, 'elts', [node.slice]))):
        return 'index by a comparison'
    return None


def findings(node: ast.AST, owner: str = '') -> Iterator[tuple[str, int, str]]:
    """Function or method, line and kind of every wait below ``node``."""
    for child in ast.iter_child_nodes(node):
        name = owner
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            name = f'{owner}.{child.name}'.lstrip('.')
        if (kind := waits(child)) is not None:
            yield name, child.lineno, kind
        yield from findings(child, name)


def found_in(path: Path) -> list[tuple[str, int, str]]:
    file = path.relative_to(PACKAGE).as_posix()
    return [(f'{file}:{name}', *rest) for name, *rest in findings(ast.parse(path.read_text(encoding='utf-8')))]


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_waits_for_the_device(path: Path) -> None:
    assert [found for found in found_in(path) if found[0] not in KNOWN] == []


def test_known_places_still_wait() -> None:
    assert {name for path in FILES for name, *_ in found_in(path)} >= KNOWN.keys()


SOURCE = """
def reads(x):
    a = x.item(), x.cpu(), x.to('cpu'), x.tolist(), x.sum().numpy()
    b = int(x.max()), bool((x > 0).any())
    while x.any() and not done: pass
    c = x[x > 0], x[:, ~known], x[a & (b == 1)], torch.where(x), x.nonzero()
    d = x.new_tensor([1]), torch.tensor(1, device=x.device)
    return a if x.isnan().all() else b
def does_not(x: int | None, y: dict[str, int | None]) -> None:
    a = x[0], x[1:], x[..., None], int(3.5), max(x), torch.where(x > 0, x, 0), x.to(y, non_blocking=True)
    if x is not None and len(x): return torch.tensor([1.0]), float(x)
"""


def test_what_the_check_sees() -> None:
    kinds = {'reads': [], 'does_not': []}
    for name, _, kind in findings(ast.parse(SOURCE)):
        kinds[name].append(kind)
    expected = ['.item()', '.cpu()', ".to('cpu')", '.tolist()', '.numpy()', '.nonzero()', 'where of one argument']
    expected += ['int(...) of a reduction', 'bool(...) of a reduction']
    expected += ['new_tensor(...) on the device', 'tensor(...) on the device']
    expected += 2 * ['branch on a reduction'] + 3 * ['index by a comparison']
    assert sorted(kinds['reads']) == sorted(expected)
    assert kinds['does_not'] == []
