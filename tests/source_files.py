"""The files of the package, each parsed once, for the tests that read them."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import nwb_lrrnn

PACKAGE = Path(nwb_lrrnn.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


@functools.cache
def parsed(file: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(file.read_text())


def module_name(file: Path, package: Path = PACKAGE) -> str:
    """Return the dotted name inside the package: 'models.base'; '__init__' for the package itself."""
    parts = file.relative_to(package).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts
    return ".".join(parts)


def dotted(node: ast.AST) -> str:
    """Return 'a' or 'a.b' as it is written, nothing of what is longer, at a hundredth of `ast.unparse`'s cost."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def code_of(tree: ast.AST, without: tuple[str, ...] = ()) -> Iterator[ast.AST]:
    """Yield every node but docstrings and those inside the functions that are named."""
    for node in ast.iter_child_nodes(tree):
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not is_docstring and not (isinstance(node, ast.FunctionDef) and node.name in without):
            yield node
            yield from code_of(node, without)
