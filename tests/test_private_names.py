"""Every private name of another package that hsakd uses is there, and in docs/private_names.md."""

import ast
import importlib
import inspect
import re

import pytest
import torchvision  # noqa: F401  registers its operators

from tests.conftest import ROOT

PAGE = (ROOT / 'docs/private_names.md').read_text()
ROWS = re.findall(r'^\| `([\w.]+)` \| ([\w-]+) \| ([\d.]+) \| .+ \| .+ \|$', PAGE, re.M)
NAMES = [name for name, *_ in ROWS]
SOURCES = [path for folder in ('hsakd', 'tools') for path in (ROOT / folder).rglob('*.py')]
#: Private by their form alone: of the language, of configs, and ours that readers elsewhere need.
PUBLIC = {'_exit', '_scope_', '_base_', '_codecs', '_core', '_reconstruct', '_ext'}


def find(name: str) -> object:
    """What a dotted name is; the function or class that sets it, where it has none before."""
    words = name.split('.')
    for count in range(len(words), 0, -1):
        try:
            found = importlib.import_module('.'.join(words[:count]))
        except ModuleNotFoundError:
            continue
        break
    for word in words[count:]:
        if not hasattr(found, word):
            kinds = found.__mro__[:-1] if inspect.isclass(found) else [found]
            assert any(re.search(rf'\.{word}\b', inspect.getsource(kind)) for kind in kinds), name
            return found
        found = getattr(found, word)
    return found


@pytest.mark.parametrize('name', NAMES)
def test_it_is_there(name):
    if name.startswith('mmdet.'):
        pytest.importorskip('mmdet')
    find(name)


def private(word: str) -> bool:
    return word.startswith('_') and word[1:2] not in ('', '_') and word not in PUBLIC


def used(tree: ast.Module) -> set[str]:
    """Private names in a module that are attributes or imported."""
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {*node.module.split('.'), *(alias.name for alias in node.names)}
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') in ('getattr', 'hasattr'):
            names |= {a.value for a in node.args[1:2] if isinstance(a, ast.Constant)}
    return {name for name in names if isinstance(name, str) and private(name)}


def defined(tree: ast.Module) -> set[str]:
    """Names that a module defines: functions, classes, variables, and attributes of ``self``."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names |= {node.attr} if getattr(node.value, 'id', '') == 'self' else set()
    return names


def test_all_are_in_the_table():
    trees = [ast.parse(path.read_text()) for path in SOURCES]
    listed = {word for name in NAMES for word in name.split('.')}
    ours = set().union(*map(defined, trees))
    theirs = set().union(*map(used, trees)) - ours
    assert theirs <= listed, f'not in docs/private_names.md: {sorted(theirs - listed)}'
    text = '\n'.join(path.read_text() for path in SOURCES)
    for name in NAMES:
        word = next(word for word in name.split('.') if private(word))
        assert re.search(rf'\b{word}\b', text), f'not used any more: {name}'


def test_each_is_named_with_the_version_it_was_read_in():
    lines = [line for line in PAGE.splitlines() if line.startswith('| `')]
    assert len(ROWS) == len(lines) == len(set(NAMES)) > 10
